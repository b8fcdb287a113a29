// Vectors that end inside a pixel, and matrix products for any number of channels. Used by discrete cells.
#pragma once

#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "sizes.h"

namespace oche {

// How many numbers of a vector count: all, or the first r.
struct Full {};
struct Part { I r; };

template <typename T> inline V<T> load(const T* p, Full) { return load(p); }
template <typename T> inline void store(T* p, V<T> v, Full) { store(p, v); }
#if defined(__AVX512F__)
inline V<float> load(const float* p, Part m) { return (V<float>)_mm512_maskz_loadu_ps(__mmask16((1u << m.r) - 1), p); }
inline V<double> load(const double* p, Part m) { return (V<double>)_mm512_maskz_loadu_pd(__mmask8((1u << m.r) - 1), p); }
inline void store(float* p, V<float> v, Part m) { _mm512_mask_storeu_ps(p, __mmask16((1u << m.r) - 1), (__m512)v); }
inline void store(double* p, V<double> v, Part m) { _mm512_mask_storeu_pd(p, __mmask8((1u << m.r) - 1), (__m512d)v); }
#else
template <typename T> inline V<T> load(const T* p, Part m) {
  V<T> v{};
  std::memcpy(&v, p, m.r * sizeof(T));
  return v;
}
template <typename T> inline void store(T* p, V<T> v, Part m) { std::memcpy(p, &v, m.r * sizeof(T)); }
#endif

// Call f(c, how many) for the vectors of one pixel.
template <typename T, typename F> inline void vectors_of(I C, F f) {
  I c = 0;
  for (; c + L<T> <= C; c += L<T>) f(c, Full{});
  if (c < C) f(c, Part{C - c});
}

// One number per channel, repeated so that vectors of consecutive numbers of a map find their channels: period numbers.
template <typename T> struct Repeated {
  I period = 0;
  Buffer<T> v;
  Repeated() = default;
  Repeated(const std::vector<double>& from) : period(std::lcm(I(from.size()), I(L<T>))), v(period) {
    const I C = from.size();
    for (I c = 0; c < C; ++c) v[c] = T(from[c]);
    for (I e = C; e < period; e += C) std::copy_n(v.data(), C, v.data() + e);
  }
};

// Call f(e, c, how many) for the vectors of n consecutive numbers of a map; c is the place in a `Repeated`.
template <typename T, typename F> inline void flat(I n, I period, F f) {
  I e = 0, c = 0;
  for (; e + period <= n; e += period)
    for (I k = 0; k < period; k += L<T>) f(e + k, k, Full{});
  for (; e + L<T> <= n; e += L<T>, c += L<T>) f(e, c, Full{});
  if (e < n) f(e, c, Part{n - e});
}

// Add to s0 and s1 (C) the sums over n rows of a and of a * b, times `by`. Few rows, because they are summed in T.
template <typename T> void column_sums(double* s0, double* s1, const T* a, const T* b, I n, I C, double by = 1) {
  vectors_of<T>(C, [&](I c, auto m) {
    V<T> x0{}, x1{}, y0{}, y1{};
    I p = 0;
    for (; p + 2 <= n; p += 2) {
      V<T> u = load(a + p * C + c, m), v = load(a + (p + 1) * C + c, m);
      x0 += u; y0 += v;
      x1 += u * load(b + p * C + c, m); y1 += v * load(b + (p + 1) * C + c, m);
    }
    if (p < n) { V<T> u = load(a + p * C + c, m); x0 += u; x1 += u * load(b + p * C + c, m); }
    x0 += y0; x1 += y1;
    alignas(64) T t0[L<T>], t1[L<T>];
    store(t0, x0);
    store(t1, x1);
    if constexpr (std::is_same_v<decltype(m), Full>)
      for (int l = 0; l < L<T>; ++l) { s0[c + l] += by * t0[l]; s1[c + l] += by * t1[l]; }
    else
      for (I l = 0; l < m.r; ++l) { s0[c + l] += by * t0[l]; s1[c + l] += by * t1[l]; }
  });
}

// Where a product goes: row p to to + (off ? off[p] : p * ld), nowhere if off[p] < 0. With a gate (rows of ldg) it is added
// where the gate is positive; otherwise it is stored.
template <typename T> struct Target {
  T* to;
  I ld;
  const I* off = nullptr;
  const T* gate = nullptr;
  I ldg = 0;

  template <typename M> inline void put(I p, I c, V<T> v, M m) const {
    I at = off ? off[p] : p * ld;
    if (at < 0) return;
    T* d = to + at + c;
    if (gate) {
      V<T> g = load(gate + p * ldg + c, m);
      v = load(d, m) + (g > 0 ? v : V<T>{});
    }
    store(d, v, m);
  }
};

// The numbers of a product: T itself, or pairs of bfloat16 whose products are summed in float32.
template <typename T> struct Single {
  using A = T;
  using B = V<T>;
  static B get(const T* p) { return load(p); }
  static void add(V<T>& acc, T s, B b) { acc += s * b; }
};
#if defined(__AVX512BF16__)
constexpr bool HAS_BF16 = true;
struct Pairs {
  using A = uint32_t;
  using B = __m512i;
  static B get(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static void add(V<float>& acc, uint32_t s, B b) {
    acc = (V<float>)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32(int(s)), (__m512bh)b);
  }
};
inline __m256i rounded(V<float> v) { return (__m256i)_mm512_cvtneps_pbh((__m512)v); }

// to (n, ldt) = pairs of adjacent numbers of the rows of a (n, lda), k numbers each; whole vectors, zeros behind
inline void pairs_in_rows(uint32_t* to, I ldt, const float* a, I lda, I n, I k) {
  for (I p = 0; p < n; ++p)
    vectors_of<float>(k, [&](I c, auto m) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + p * ldt + c / 2), rounded(load(a + p * lda + c, m)));
    });
}

// to (n / 2, ldt) = pairs of numbers below each other in a (n, lda), k numbers a row; a zero below the last row of an odd n
inline void pairs_of_rows(uint32_t* to, I ldt, const float* a, I lda, I n, I k) {
  for (I p = 0; p < n; p += 2)
    vectors_of<float>(k, [&](I c, auto m) {
      const __m512i low = _mm512_cvtepu16_epi32(rounded(load(a + p * lda + c, m)));
      const __m512i high = p + 1 < n ? _mm512_cvtepu16_epi32(rounded(load(a + (p + 1) * lda + c, m))) : _mm512_setzero_si512();
      _mm512_storeu_si512(to + p / 2 * ldt + c, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    });
}
#else
constexpr bool HAS_BF16 = false;
struct Pairs { using A = uint32_t; };
#endif

// Rows p .. p + PX, vectors c .. c + NV of a (n, lda) @ b (k, ldb); r numbers of the last vector count (0: all).
template <typename K, typename T, int PX, int NV>
inline void product_block(const Target<T>& to, I p, I c, const typename K::A* a, I lda, const typename K::A* b, I ldb, I k, I r) {
  V<T> acc[PX][NV];
  for (int i = 0; i < PX; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = V<T>{};
  for (I j = 0; j < k; ++j) {
    typename K::B bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = K::get(b + j * ldb + v * L<T>);
#pragma GCC unroll 16
    for (int i = 0; i < PX; ++i) {
      const typename K::A s = a[i * lda + j];
      for (int v = 0; v < NV; ++v) K::add(acc[i][v], s, bv[v]);
    }
  }
  for (int i = 0; i < PX; ++i)
    for (int v = 0; v < NV; ++v)
      if (v == NV - 1 && r) to.put(p + i, c + v * L<T>, acc[i][v], Part{r});
      else to.put(p + i, c + v * L<T>, acc[i][v], Full{});
}

template <typename K, typename T, int PX, int NV>
void product_panel(const Target<T>& to, I c, const typename K::A* a, I lda, const typename K::A* b, I ldb, I n, I k, I r) {
  I p = 0;
  for (; p + PX <= n; p += PX) product_block<K, T, PX, NV>(to, p, c, a + p * lda, lda, b, ldb, k, r);
  for (; p + 4 <= n; p += 4) product_block<K, T, 4, NV>(to, p, c, a + p * lda, lda, b, ldb, k, r);
  for (; p < n; ++p) product_block<K, T, 1, NV>(to, p, c, a + p * lda, lda, b, ldb, k, r);
}

// The number of vectors in the next panel of a matrix that has nv left: 4 or 3, fewer only where that is all.
inline I panel(I nv) { return nv <= 4 ? nv : nv == 5 || nv % 3 == 0 || nv == 10 ? 3 : 4; }

// to = a (n, lda) @ b (k, ldb), with `cols` columns. The rows of b are readable up to a whole vector.
template <typename K, typename T> void product(const Target<T>& to, const typename K::A* a, I lda, const typename K::A* b, I ldb, I n, I k, I cols) {
  I nv = (cols + L<T> - 1) / L<T>;
  for (I v = 0; v < nv;) {
    I w = panel(nv - v), c = v * L<T>, r = v + w == nv ? cols % L<T> : 0;
    switch (w) {
      case 4: product_panel<K, T, 6, 4>(to, c, a, lda, b + c, ldb, n, k, r); break;
      case 3: product_panel<K, T, 8, 3>(to, c, a, lda, b + c, ldb, n, k, r); break;
      case 2: product_panel<K, T, 12, 2>(to, c, a, lda, b + c, ldb, n, k, r); break;
      default: product_panel<K, T, 12, 1>(to, c, a, lda, b + c, ldb, n, k, r);
    }
    v += w;
  }
}

template <typename K, typename T, int M, int NV>
inline void gather_block(T* out, I ldo, const typename K::A* a, I lda, const typename K::A* b, I ldb, I n) {
  V<T> acc[M][NV];
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = load(out + i * ldo + v * L<T>);
  for (I p = 0; p < n; ++p) {
    typename K::B bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = K::get(b + p * ldb + v * L<T>);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const typename K::A s = a[p * lda + i];
      for (int v = 0; v < NV; ++v) K::add(acc[i][v], s, bv[v]);
    }
  }
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < NV; ++v) store(out + i * ldo + v * L<T>, acc[i][v]);
}

template <typename K, typename T, int M, int NV>
void gather_panel(T* out, I ldo, const typename K::A* a, I lda, const typename K::A* b, I ldb, I n, I m) {
  I i = 0;
  for (; i + M <= m; i += M) gather_block<K, T, M, NV>(out + i * ldo, ldo, a + i, lda, b, ldb, n);
  for (; i + 4 <= m; i += 4) gather_block<K, T, 4, NV>(out + i * ldo, ldo, a + i, lda, b, ldb, n);
  for (; i < m; ++i) gather_block<K, T, 1, NV>(out + i * ldo, ldo, a + i, lda, b, ldb, n);
}

// out (m, ldo) += a (n, lda)^T @ b (n, ldb), whole vectors of `cols` columns; b is readable up to a whole vector
template <typename K, typename T> void gather(T* out, I ldo, const typename K::A* a, I lda, const typename K::A* b, I ldb, I n, I m, I cols) {
  I nv = (cols + L<T> - 1) / L<T>;
  for (I v = 0; v < nv;) {
    I w = panel(nv - v), c = v * L<T>;
    switch (w) {
      case 4: gather_panel<K, T, 6, 4>(out + c, ldo, a, lda, b + c, ldb, n, m); break;
      case 3: gather_panel<K, T, 8, 3>(out + c, ldo, a, lda, b + c, ldb, n, m); break;
      case 2: gather_panel<K, T, 12, 2>(out + c, ldo, a, lda, b + c, ldb, n, m); break;
      default: gather_panel<K, T, 16, 1>(out + c, ldo, a, lda, b + c, ldb, n, m);
    }
    v += w;
  }
}

}  // namespace oche
