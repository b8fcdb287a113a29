// 3 x 3 pooling of one image, added to a sum, and its gradient.
#pragma once

#include "wide.h"

namespace oche {

template <typename T> struct PoolImage {
  I C, H, W, s;
  Frame f;
  Conv conv{3, 1};
  PoolImage(const Tensor& x, I stride) : C(x.size(1)), H(x.size(2)), W(x.size(3)), s(stride), f(H, W, stride, 1, C, 0) {}

  // to += by * the maximum; which: the tap that won, the first of equal ones. NaN wins.
  void largest(T* to, uint8_t* which, const T* x, T by, Buffer<T>& padded, Buffer<T>& row) const {
    using Index = std::conditional_t<std::is_same_v<T, float>, int32_t, int64_t>;
    padded.assign(f.size() + 2 * L<T>, -std::numeric_limits<T>::infinity());
    copy<T>(padded.data(), f, x, C);
    const I n = f.Wo * C;
    if (I(row.size()) < n) row.assign(n, T(0));
    std::vector<Index> tap(n);
    T* best = row.data();
    for (I y = 0; y < f.Ho; ++y, to += n, which += n) {
      const T* src = padded.data() + y * f.Wq * C;
      const T* first = src + f.tap(conv.dy(0), conv.dx(0));
      for (I e = 0; e < n; ++e) { best[e] = first[e]; tap[e] = 0; }
      for (I t = 1; t < 9; ++t) {
        const T* v = src + f.tap(conv.dy(t), conv.dx(t));
        for (I e = 0; e < n; ++e) {
          bool more = v[e] > best[e] || v[e] != v[e];
          best[e] = more ? v[e] : best[e];
          tap[e] = more ? Index(t) : tap[e];
        }
      }
      for (I e = 0; e < n; ++e) { which[e] = uint8_t(tap[e]); to[e] += by * best[e]; }
    }
    padded.clear();  // its margin is no longer zero
    row.clear();
  }

  // How many pixels of the image are in the window of an output pixel.
  T count(I y, I px) const {
    return T((std::min(H, y * s + 2) - std::max<I>(0, y * s - 1)) * (std::min(W, px * s + 2) - std::max<I>(0, px * s - 1)));
  }

  // to += by * the mean, padding not counted
  void mean(T* to, const T* x, T by, Buffer<T>& padded, Buffer<T>& row) const {
    padded.assign(f.size() + 2 * L<T>, T(0));
    copy<T>(padded.data(), f, x, C);
    const I n = f.Wo * C;
    row.assign(n + 2 * L<T>, T(0));
    for (I y = 0; y < f.Ho; ++y, to += n) {
      const T* src = padded.data() + y * f.Wq * C;
      const T* first = src + f.tap(conv.dy(0), conv.dx(0));
      T* sum = row.data();
      for (I e = 0; e < n; ++e) sum[e] = first[e];
      for (I t = 1; t < 9; ++t) {
        const T* v = src + f.tap(conv.dy(t), conv.dx(t));
        for (I e = 0; e < n; ++e) sum[e] += v[e];
      }
      for (I px = 0; px < f.Wo; ++px) {
        const T w = by / count(y, px);
        for (I c = 0; c < C; ++c) to[px * C + c] += sum[px * C + c] * w;
      }
    }
    padded.clear();
    row.clear();
  }

  // gx += by * the gradient of the maximum (which) or of the mean (no which)
  void backward(T* gx, const T* g, const uint8_t* which, T by, Buffer<T>& padded, Buffer<T>& row) const {
    padded.assign(f.size() + 2 * L<T>, T(0));
    const I n = f.Wo * C;
    row.assign(n + 2 * L<T>, T(0));
    for (I y = 0; y < f.Ho; ++y, g += n) {
      T *base = padded.data() + y * f.Wq * C, *r = row.data();
      for (I px = 0; px < f.Wo; ++px) {
        const T w = which ? by : by / count(y, px);
        for (I c = 0; c < C; ++c) r[px * C + c] = g[px * C + c] * w;
      }
      for (I t = 0; t < 9; ++t) {
        T* d = base + f.tap(conv.dy(t), conv.dx(t));
        if (which) for (I e = 0; e < n; ++e) d[e] += which[e] == t ? r[e] : T(0);
        else for (I e = 0; e < n; ++e) d[e] += r[e];
      }
      if (which) which += n;
    }
    for (I y = 0; y < H; ++y)
      for (I px = 0; px < W; ++px) {
        const T* src = padded.data() + f.at(y, px);
        T* d = gx + (y * W + px) * C;
        for (I c = 0; c < C; ++c) d[c] += src[c];
      }
    padded.clear();
    row.clear();
  }
};

}  // namespace oche
