// Loops over pixels with one number per channel: normalisation, filling the padded input P, and sums per channel.
#pragma once

#include "sizes.h"

namespace oche {

// One number per channel, repeated so that a vector can be loaded at any multiple of L, if `even()`.
template <typename T> struct Channels {
  I C, period;
  Buffer<T> v;
  Channels() : C(0), period(1) {}
  explicit Channels(const double* from, I c) : C(c), period(c % L<T> == 0 ? c : L<T>), v(std::max(period, c)) {
    for (size_t e = 0; e < v.size(); ++e) v[e] = T(from[e % c]);
  }
  bool even() const { return C % L<T> == 0 || L<T> % C == 0; }
};

// Visit n elements: call f(e, c) for vectors e .. e + L whose channels start at c, then g(e, c) for each remaining element.
template <typename T, typename F, typename G> inline void each(I n, I C, F f, G g) {
  I e = 0;
  if (C % L<T> == 0)
    for (; e < n; e += C)
      for (I c = 0; c < C; c += L<T>) f(e + c, c);
  else if (L<T> % C == 0)
    for (; e + L<T> <= n; e += L<T>) f(e, 0);
  for (I c = e % C; e < n; ++e, c = c + 1 == C ? 0 : c + 1) g(e, c);
}

template <typename T> inline V<T> positive(V<T> v) { return v < 0 ? V<T>{} : v; }  // NaN stays NaN

// Fill P with one image: relu(x), or relu(x * scale + shift) if `scale` is given. The margin is not written.
template <typename T> void fill(T* P, const Frame& f, const T* x, I C, const Channels<T>* scale, const Channels<T>* shift) {
  for (I y = 0; y < f.H; ++y) {
    const T* from = x + y * f.W * C;
    if (f.s == 1 && f.Cs == C) {
      T* to = P + f.at(y, 0);
      if (scale) {
        const T *a = scale->v.data(), *b = shift->v.data();
        each<T>(f.W * C, C, [&](I e, I c) { store(to + e, positive<T>(load(from + e) * load(a + c) + load(b + c))); },
                [&](I e, I c) { T v = from[e] * a[c] + b[c]; to[e] = v < 0 ? T(0) : v; });
      } else {
        each<T>(f.W * C, C, [&](I e, I) { store(to + e, positive<T>(load(from + e))); },
                [&](I e, I) { T v = from[e]; to[e] = v < 0 ? T(0) : v; });
      }
      continue;
    }
    for (I px = 0; px < f.W; ++px) {
      T* to = P + f.at(y, px);
      const T* src = from + px * C;
      for (I c = 0; c < C; ++c) {
        T v = scale ? src[c] * scale->v[c] + shift->v[c] : src[c];
        to[c] = v < 0 ? T(0) : v;
      }
    }
  }
}

// Copy one image into P. The margin is not written.
template <typename T> void copy(T* P, const Frame& f, const T* x, I C) {
  for (I y = 0; y < f.H; ++y)
    for (I px = 0; px < f.W; ++px) std::copy_n(x + (y * f.W + px) * C, C, P + f.at(y, px));
}

// Add to s0 and s1 (C) the sums over rows of a (n, C) and of a * b: in T over CHUNK rows at a time, then in double.
// `t` is a scratch buffer.
template <typename T> void sums(double* s0, double* s1, const T* a, const T* b, I n, I C, Buffer<T>& t) {
  constexpr I CHUNK = 128;
  I width = up(std::max<I>(C, L<T>), L<T>);
  t.assign(2 * width, T(0));
  T *t0 = t.data(), *t1 = t0 + width;
  for (I p = 0; p < n; p += CHUNK) {
    I m = std::min(n, p + CHUNK) - p;
    const T *u = a + p * C, *w = b + p * C;
    std::fill(t.begin(), t.end(), T(0));
    if (C % L<T> == 0) {
      for (I c = 0; c < C; c += L<T>) {
        V<T> x0{}, x1{}, y0{}, y1{};
        I q = 0;
        for (; q + 2 <= m; q += 2) {
          V<T> v0 = load(u + q * C + c), v1 = load(u + (q + 1) * C + c);
          x0 += v0; y0 += v1;
          x1 += v0 * load(w + q * C + c); y1 += v1 * load(w + (q + 1) * C + c);
        }
        for (; q < m; ++q) { V<T> v = load(u + q * C + c); x0 += v; x1 += v * load(w + q * C + c); }
        store(t0 + c, x0 + y0);
        store(t1 + c, x1 + y1);
      }
    } else {
      V<T> x0{}, x1{};
      each<T>(m * C, C, [&](I e, I) { V<T> v = load(u + e); x0 += v; x1 += v * load(w + e); },
              [&](I e, I c) { t0[c] += u[e]; t1[c] += u[e] * w[e]; });
      if (L<T> % C == 0)
        for (I l = 0; l < L<T>; ++l) { t0[l % C] += x0[l]; t1[l % C] += x1[l]; }
    }
    for (I d = 0; d < C; ++d) { s0[d] += t0[d]; s1[d] += t1[d]; }
  }
}

}  // namespace oche
