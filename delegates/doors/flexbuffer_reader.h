// Reads integers and strings from a FlexBuffer whose root is a map: the custom options of our ops.
//
// The bytes come from a model file and may be anything: every read is checked against the buffer, and a damaged map looks like one in
// which the key is missing or has another type.
#ifndef TFLITE_SMART_DOORS_FLEXBUFFER_READER_H_
#define TFLITE_SMART_DOORS_FLEXBUFFER_READER_H_

#include <cstddef>
#include <cstdint>

namespace tflite_smart {

class FlexMap {
 public:
  enum Result { kFound, kMissing, kWrongType };

  // False if the root is no map. The bytes must outlive the object.
  bool Parse(const uint8_t* data, size_t size);

  Result GetInt(const char* key, int64_t* value) const;

  // Copies the string, cut to `capacity` - 1 bytes, and ends it with a zero.
  Result GetString(const char* key, char* value, size_t capacity) const;

 private:
  // A vector inside the buffer: its first element, their number and their width in bytes.
  struct Vector {
    size_t begin = 0;
    uint64_t count = 0;
    size_t width = 0;
  };

  bool ReadUnsigned(size_t offset, size_t width, uint64_t* value) const;
  bool Follow(size_t offset, size_t width, size_t* target) const;
  bool ReadVector(size_t begin, size_t width, size_t bytes_per_element, Vector* out) const;
  bool Find(const char* key, size_t* offset, uint8_t* packed_type) const;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  uint64_t count_ = 0;
  Vector values_;
  Vector keys_;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_FLEXBUFFER_READER_H_
