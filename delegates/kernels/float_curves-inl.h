// Activations that are more than two limits, over `Vec`; part of float_kernels-inl.h, which includes it.

namespace tflite_smart {
namespace {

// 2^n, of the sum of n and kExponentMagic: 1.5 * 2^23 puts the integer n + 127 in the sum's lowest bits, where the shift finds it.
constexpr float kExponentMagic = 12582912.0f + 127.0f;

inline Vec PowerOfTwo(Vec magic) {
  typedef uint32_t Bits __attribute__((vector_size(sizeof(float) * kLanes)));
  Bits bits;
  __builtin_memcpy(&bits, &magic.v, sizeof(bits));
  bits <<= 23;
  __builtin_memcpy(&magic.v, &bits, sizeof(bits));
  return magic;
}

// e^z for -87 <= z <= 87: 2^n * e^r with |r| <= log(2) / 2, the polynomial being that of Cephes' expf (Moshier 1989). Within 2 ulp.
inline Vec Exp(Vec z) {
  const Vec magic = MulAdd(z, Vec::Set(1.44269504f), Vec::Set(kExponentMagic));
  const Vec n = Add(magic, Vec::Set(-kExponentMagic));
  const Vec r = MulAdd(n, Vec::Set(2.12194440e-4f), MulAdd(n, Vec::Set(-0.693359375f), z));  // log(2) in two parts, the first one exact
  Vec p = MulAdd(Vec::Set(1.9875691500e-4f), r, Vec::Set(1.3981999507e-3f));
  p = MulAdd(p, r, Vec::Set(8.3334519073e-3f));
  p = MulAdd(p, r, Vec::Set(4.1665795894e-2f));
  p = MulAdd(p, r, Vec::Set(1.6666665459e-1f));
  p = MulAdd(p, r, Vec::Set(5.0000001201e-1f));
  return Mul(Add(MulAdd(Mul(r, r), p, r), Vec::Set(1.0f)), PowerOfTwo(magic));
}

inline Vec ExpOf(Vec x) { return Exp(Min(Vec::Set(87.0f), Max(Vec::Set(-87.0f), x))); }

// x / (1 + e^-x)
inline Vec SwishOf(Vec x) {
  return {x.v / Add(ExpOf(Mul(x, Vec::Set(-1.0f))), Vec::Set(1.0f)).v};
}

// 1 / (1 + e^-x)
inline Vec LogisticOf(Vec x) { return {Vec::Set(1.0f).v / Add(ExpOf(Mul(x, Vec::Set(-1.0f))), Vec::Set(1.0f)).v}; }

// x * min(max(x + 3, 0), 6) / 6
inline Vec HardSwishOf(Vec x) {
  return Mul(Mul(x, Vec::Set(1.0f / 6.0f)), Min(Vec::Set(6.0f), Max(Vec::Zero(), Add(x, Vec::Set(3.0f)))));
}

// x * P(X < x) of a normal X; the polynomial for the tail of its distribution is 7.1.26 of Abramowitz and Stegun: within 1.5e-7.
inline Vec GeluOf(Vec x) {
  const Vec size = Max(x, Mul(x, Vec::Set(-1.0f))), z = Mul(size, Vec::Set(0.70710678f));
  const Vec t = {Vec::Set(1.0f).v / MulAdd(z, Vec::Set(0.3275911f), Vec::Set(1.0f)).v};
  Vec p = MulAdd(Vec::Set(1.061405429f), t, Vec::Set(-1.453152027f));
  p = MulAdd(p, t, Vec::Set(1.421413741f));
  p = MulAdd(p, t, Vec::Set(-0.284496736f));
  p = MulAdd(p, t, Vec::Set(0.254829592f));
  const Vec tail = Mul(Mul(Mul(p, t), Vec::Set(-0.5f)), ExpOf(Mul(Mul(z, z), Vec::Set(-1.0f))));
  return MulAdd(size, tail, Max(Vec::Zero(), x));
}

template <Vec (*kCurve)(Vec)>
void Map(const float* x, size_t count, float* y) {
  for (size_t i = 0; i < count; i += kLanes) {  // one curve for whole vectors and the last one: most of the code is in it
    const uint32_t rest = static_cast<uint32_t>(count - i < kLanes ? count - i : kLanes);
    const Vec v = kCurve(rest == kLanes ? Vec::Load(x + i) : Vec::LoadFirst(x + i, rest));
    if (rest == kLanes) {
      v.Store(y + i);
    } else {
      v.StoreFirst(y + i, rest);
    }
  }
}

// y = e^(beta * (x - max)), over the sum of all. y may be x.
void Softmax(const float* x, size_t count, float beta, float* y) {
  const size_t whole = count / kLanes * kLanes;
  const uint32_t rest = static_cast<uint32_t>(count - whole);
  float parts[kLanes];
  Vec most = Vec::Set(x[0]), sum = Vec::Zero();
  for (size_t i = 0; i < whole; i += kLanes) most = Max(Vec::Load(x + i), most);
  most.Store(parts);
  for (uint32_t i = 0; i < rest; ++i) parts[i] = x[whole + i] > parts[i] ? x[whole + i] : parts[i];
  float max = parts[0];
  for (const float part : parts) max = part > max ? part : max;

  const auto power = [&](Vec v) { return ExpOf(Mul(Vec::Set(beta), Add(v, Vec::Set(-max)))); };
  for (size_t i = 0; i < whole; i += kLanes) {
    const Vec e = power(Vec::Load(x + i));
    e.Store(y + i);
    sum = Add(sum, e);
  }
  if (rest != 0) power(Vec::LoadFirst(x + whole, rest)).StoreFirst(y + whole, rest);
  sum.Store(parts);
  float total = 0.0f;
  for (uint32_t i = 0; i < rest; ++i) total += y[whole + i];
  for (const float part : parts) total += part;

  const Vec scale = Vec::Set(1.0f / total);
  for (size_t i = 0; i < whole; i += kLanes) Mul(Vec::Load(y + i), scale).Store(y + i);
  if (rest != 0) Mul(Vec::LoadFirst(y + whole, rest), scale).StoreFirst(y + whole, rest);
}

}  // namespace
}  // namespace tflite_smart
