// From the sixteen stored frequencies to the tables that rANS decodes with.
#ifndef TFLITE_SMART_CORE_ALIAS_TABLES_H_
#define TFLITE_SMART_CORE_ALIAS_TABLES_H_

#include "core/coding.h"

namespace tflite_smart {

// `frequency` must sum to kSlots; the caller has checked it.
AliasTables BuildAliasTables(const uint8_t frequency[kSymbols]);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_ALIAS_TABLES_H_
