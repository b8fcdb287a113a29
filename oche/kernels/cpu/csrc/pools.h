// 3 x 3 pooling of a source.
#pragma once

#include <ATen/TensorOperators.h>

#include "terms.h"

namespace oche {

// Pool x with 3 x 3 windows and padding 1. Return (maximum, index of its tap, average without padding, statistics (2, 2, C)): mean
// and biased variance of the maximum and of the average.
std::tuple<Tensor, Tensor, Tensor, Tensor> pools_forward(const Tensor& input, I stride, bool want_max, bool want_mean) {
  Tensor x = last(input);
  I B = x.size(0), C = x.size(1), H = x.size(2), W = x.size(3), threads = at::get_num_threads();
  Frame f(H, W, stride, 1, C, 0);
  Conv conv(3, 1);
  Tensor top = fresh(x, want_max ? B : 0, C, f.Ho, f.Wo), mean = fresh(x, want_mean ? B : 0, C, f.Ho, f.Wo);
  Tensor which = at::empty({want_max ? B : 0, C, f.Ho, f.Wo}, x.options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
  Tensor partial = at::zeros({threads, 2, 2, C}, x.options().dtype(at::kDouble));
  double* part = partial.mutable_data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pools_forward", [&] {
    using T = scalar_t;
    using Index = std::conditional_t<std::is_same_v<T, float>, int32_t, int64_t>;
    const T* xp = x.const_data_ptr<T>();
    T *tp = top.mutable_data_ptr<T>(), *mp = mean.mutable_data_ptr<T>();
    uint8_t* wp = which.mutable_data_ptr<uint8_t>();
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      double* mine = part + at::get_thread_num() * 4 * C;
      const I n = f.Wo * C;
      Buffer<T> P(f.size(), -std::numeric_limits<T>::infinity()), Q(f.size(), T(0)), scratch;
      std::vector<Index> tap(n);
      for (I b = begin; b < end; ++b) {
        const T* xi = xp + b * C * H * W;
        if (want_max) copy<T>(P.data(), f, xi, C);
        if (want_mean) copy<T>(Q.data(), f, xi, C);
        for (I y = 0; y < f.Ho; ++y) {
          I row = (b * f.Ho + y) * n;
          if (want_max) {
            T* best = tp + row;
            const T* src = P.data() + y * f.Wq * C;
            const T* first = src + f.tap(conv.dy(0), conv.dx(0));
            for (I e = 0; e < n; ++e) { best[e] = first[e]; tap[e] = 0; }
            for (I t = 1; t < 9; ++t) {
              const T* v = src + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) {
                bool more = v[e] > best[e] || v[e] != v[e];  // the first of equal values, as in torch; NaN wins
                best[e] = more ? v[e] : best[e];
                tap[e] = more ? Index(t) : tap[e];
              }
            }
            for (I e = 0; e < n; ++e) wp[row + e] = uint8_t(tap[e]);
          }
          if (want_mean) {
            T* sum = mp + row;
            const T* src = Q.data() + y * f.Wq * C;
            for (I e = 0; e < n; ++e) sum[e] = 0;
            for (I t = 0; t < 9; ++t) {
              const T* v = src + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) sum[e] += v[e];
            }
            I rows = std::min(H, y * stride + 2) - std::max<I>(0, y * stride - 1);
            for (I px = 0; px < f.Wo; ++px) {
              I columns = std::min(W, px * stride + 2) - std::max<I>(0, px * stride - 1);
              T count = T(rows * columns);
              for (I c = 0; c < C; ++c) sum[px * C + c] /= count;
            }
          }
        }
        I image = f.Ho * n;
        if (want_max) sums(mine, mine + C, tp + b * image, tp + b * image, f.Ho * f.Wo, C, scratch);
        if (want_mean) sums(mine + 2 * C, mine + 3 * C, mp + b * image, mp + b * image, f.Ho * f.Wo, C, scratch);
      }
    });
  });
  Tensor total = partial.sum(0).div_(double(B) * f.Ho * f.Wo);
  Tensor m = total.select(1, 0);
  total.select(1, 1).sub_(m * m).clamp_min_(0);
  return {top, which, mean, total};
}

// Return the gradient of x from those of the maximum and of the average. Either may be missing.
Tensor pools_backward(const std::optional<Tensor>& of_max, const Tensor& which, const std::optional<Tensor>& of_mean, I B, I C, I H,
                      I W, I stride) {
  Frame f(H, W, stride, 1, C, 0);
  Conv conv(3, 1);
  Tensor gm = of_max ? last(*of_max) : Tensor(), ga = of_mean ? last(*of_mean) : Tensor();
  const Tensor& like = of_max ? gm : ga;
  Tensor gx = at::empty({B, C, H, W}, like.options(), at::MemoryFormat::ChannelsLast);
  AT_DISPATCH_FLOATING_TYPES(like.scalar_type(), "pools_backward", [&] {
    using T = scalar_t;
    const T *gmp = of_max ? gm.const_data_ptr<T>() : nullptr, *gap = of_mean ? ga.const_data_ptr<T>() : nullptr;
    const uint8_t* wp = of_max ? which.const_data_ptr<uint8_t>() : nullptr;
    T* to = gx.mutable_data_ptr<T>();
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      const I n = f.Wo * C, image = f.Ho * n;
      Buffer<T> GP(f.size());
      Buffer<T> row(n);
      for (I b = begin; b < end; ++b) {
        std::fill(GP.begin(), GP.end(), T(0));
        for (I y = 0; y < f.Ho; ++y) {
          T* base = GP.data() + y * f.Wq * C;
          if (gmp) {
            const T* g = gmp + b * image + y * n;
            const uint8_t* w = wp + b * image + y * n;
            for (I t = 0; t < 9; ++t) {
              T* d = base + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) d[e] += w[e] == t ? g[e] : T(0);
            }
          }
          if (gap) {
            const T* g = gap + b * image + y * n;
            I rows = std::min(H, y * stride + 2) - std::max<I>(0, y * stride - 1);
            for (I px = 0; px < f.Wo; ++px) {
              I columns = std::min(W, px * stride + 2) - std::max<I>(0, px * stride - 1);
              T count = T(rows * columns);
              for (I c = 0; c < C; ++c) row[px * C + c] = g[px * C + c] / count;
            }
            for (I t = 0; t < 9; ++t) {
              T* d = base + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) d[e] += row[e];
            }
          }
        }
        for (I y = 0; y < H; ++y)
          for (I px = 0; px < W; ++px) {
            const T* src = GP.data() + f.at(y, px);
            T* d = to + ((b * H + y) * W + px) * C;
            for (I c = 0; c < C; ++c) d[c] = src[c];
          }
      }
    });
  });
  return gx;
}

}  // namespace oche
