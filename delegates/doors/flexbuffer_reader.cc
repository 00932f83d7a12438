#include "doors/flexbuffer_reader.h"

#include <cstring>

namespace tflite_smart {
namespace {

// The layout, from the back (flatbuffers.dev, "FlexBuffers"):
//   buffer = ... root value, packed type of the root (1 byte), width of the root value (1 byte)
//   packed type = type << 2 | log2 of the width of what an offset leads to
//   offset = distance backwards from where the offset itself stands
//   map    = offset to the keys, width of the keys, count, [map begins here] values, one packed type byte a value
//   keys   = count, [begins here] offsets to zero-terminated strings, sorted
//   string = length, [begins here] bytes, zero
enum FlexType : uint8_t { kInt = 1, kUInt = 2, kString = 5, kIndirectInt = 6, kIndirectUInt = 7, kMap = 9, kBool = 26 };

size_t TargetWidth(uint8_t packed_type) { return size_t{1} << (packed_type & 3); }

bool IsWidth(uint64_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

}  // namespace

bool FlexMap::ReadUnsigned(size_t offset, size_t width, uint64_t* value) const {
  if (!IsWidth(width) || offset > size_ || size_ - offset < width) return false;
  *value = 0;
  std::memcpy(value, data_ + offset, width);  // little-endian, like everything here
  return true;
}

bool FlexMap::Follow(size_t offset, size_t width, size_t* target) const {
  uint64_t distance;
  if (!ReadUnsigned(offset, width, &distance) || distance > offset) return false;
  *target = offset - static_cast<size_t>(distance);
  return true;
}

// `bytes_per_element`: what an element takes, with its type byte where there is one.
bool FlexMap::ReadVector(size_t begin, size_t width, size_t bytes_per_element, Vector* out) const {
  uint64_t count;
  if (begin < width || !ReadUnsigned(begin - width, width, &count)) return false;
  if (begin > size_ || count > (size_ - begin) / bytes_per_element) return false;
  out->begin = begin;
  out->count = count;
  out->width = width;
  return true;
}

bool FlexMap::Parse(const uint8_t* data, size_t size) {
  *this = FlexMap();
  if (data == nullptr || size < 3) return false;
  data_ = data;
  size_ = size;
  const size_t root_width = data[size - 1];
  const uint8_t root_type = data[size - 2];
  size_t map;
  if (!IsWidth(root_width) || size < 2 + root_width || root_type >> 2 != kMap) return false;
  if (!Follow(size - 2 - root_width, root_width, &map)) return false;

  const size_t width = TargetWidth(root_type);
  size_t keys;
  uint64_t keys_width;
  if (!ReadVector(map, width, width + 1, &values_) || map < 3 * width) return false;
  if (!Follow(map - 3 * width, width, &keys) || !ReadUnsigned(map - 2 * width, width, &keys_width)) return false;
  if (!IsWidth(keys_width)) return false;
  if (!ReadVector(keys, static_cast<size_t>(keys_width), static_cast<size_t>(keys_width), &keys_)) return false;
  if (keys_.count != values_.count) return false;
  count_ = values_.count;
  return true;
}

bool FlexMap::Find(const char* key, size_t* offset, uint8_t* packed_type) const {
  const size_t length = std::strlen(key) + 1;  // the zero belongs to the comparison
  for (uint64_t i = 0; i < count_; ++i) {
    const size_t index = static_cast<size_t>(i);
    size_t name;
    if (!Follow(keys_.begin + index * keys_.width, keys_.width, &name)) return false;
    if (size_ - name < length || std::memcmp(data_ + name, key, length) != 0) continue;
    *offset = values_.begin + index * values_.width;
    *packed_type = data_[values_.begin + static_cast<size_t>(count_) * values_.width + index];
    return true;
  }
  return false;
}

FlexMap::Result FlexMap::GetInt(const char* key, int64_t* value) const {
  size_t offset;
  uint8_t packed_type;
  if (!Find(key, &offset, &packed_type)) return kMissing;
  const uint8_t type = packed_type >> 2;
  size_t width = values_.width;
  if (type == kIndirectInt || type == kIndirectUInt) {
    if (!Follow(offset, width, &offset)) return kWrongType;
    width = TargetWidth(packed_type);
  } else if (type != kInt && type != kUInt && type != kBool) {
    return kWrongType;
  }
  uint64_t bits;
  if (!ReadUnsigned(offset, width, &bits)) return kWrongType;
  if (type == kInt || type == kIndirectInt) {
    const int shift = static_cast<int>(64 - 8 * width);  // extend the sign
    *value = static_cast<int64_t>(bits << shift) >> shift;
  } else {
    if (bits > static_cast<uint64_t>(INT64_MAX)) return kWrongType;
    *value = static_cast<int64_t>(bits);
  }
  return kFound;
}

FlexMap::Result FlexMap::GetString(const char* key, char* value, size_t capacity) const {
  size_t offset, begin;
  uint8_t packed_type;
  if (!Find(key, &offset, &packed_type)) return kMissing;
  Vector text;
  if (packed_type >> 2 != kString || !Follow(offset, values_.width, &begin) ||
      !ReadVector(begin, TargetWidth(packed_type), 1, &text)) {
    return kWrongType;
  }
  size_t length = static_cast<size_t>(text.count);
  if (length > capacity - 1) length = capacity - 1;
  std::memcpy(value, data_ + text.begin, length);
  value[length] = '\0';
  return kFound;
}

}  // namespace tflite_smart
