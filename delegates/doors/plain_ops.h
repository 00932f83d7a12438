// Builtin convolutions that the converter left alone because they are small, on the kernels of our own: defined beside those that are
// packed, in multiply_ops.cc. For the table in glue_ops.cc.
//
// They are claimed because a tensor that another node hands over to a segment keeps its memory until the segment ends, and has been written by
// XNNPACK's threads, not by ours.
#ifndef TFLITE_SMART_DOORS_PLAIN_OPS_H_
#define TFLITE_SMART_DOORS_PLAIN_OPS_H_

#include "doors/op.h"

namespace tflite_smart {

// With constant weights, few enough to bring them into the order of the kernels at every inference, where that pays. Parameters are there.
bool IsPlainConv2D(const tfl::Context& context, const tfl::Node& node);
bool IsPlainDepthwiseConv2D(const tfl::Context& context, const tfl::Node& node);

Op* MakePlainConv2D(int builtin_code);  // kConv2D or kDepthwiseConv2D

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_PLAIN_OPS_H_
