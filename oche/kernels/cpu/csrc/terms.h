// The description of a node, parsed from the integers that Python passes (see node.py), and one normalisation.
#pragma once

#include "level.h"

namespace oche {

// `code` holds for each term: kind (0 stages, 1 a given tensor, 2 a source itself), index of the source or tensor, and number of
// normalisations; for each of those: kernel (-1: no convolution before it), dilation, stride, depthwise, affine, tracked.
// `numbers` holds eps and momentum of each normalisation.
struct Unit { I kernel, dilation, stride; bool depthwise, affine, tracked; double eps, momentum; I params;
  I convs() const { return kernel < 0 ? 0 : (kernel == 0 ? 2 : 1) + depthwise; }  // number of parameters before scale and shift
};
struct Term { I kind, index; std::vector<Unit> units; };

inline std::vector<Term> parse(at::IntArrayRef code, at::ArrayRef<double> numbers) {
  std::vector<Term> terms;
  I params = 0, n = 0;
  for (size_t i = 0; i < code.size();) {
    Term term{code[i], code[i + 1], {}};
    I units = code[i + 2];
    i += 3;
    for (I u = 0; u < units; ++u, i += 6, n += 2) {
      term.units.push_back({code[i], code[i + 1], code[i + 2], code[i + 3] != 0, code[i + 4] != 0, code[i + 5] != 0,
                            numbers[n], numbers[n + 1], params});
      const Unit& unit = term.units.back();
      params += unit.convs();
      params += unit.affine ? 2 : 0;
    }
    terms.push_back(term);
  }
  return terms;
}

struct Parts { Tensor depth; std::vector<Tensor> dense; };

// The contiguous weights of a stage.
inline Parts parts(const Unit& unit, at::TensorList params) {
  I at = unit.params;
  Parts p;
  if (unit.depthwise) p.depth = params[at++].contiguous();
  for (I i = 0; i < (unit.kernel == 0 ? 2 : 1); ++i) p.dense.push_back(params[at++].contiguous());
  return p;
}

// The normalisation of one z, in double per channel. Without a unit it is the identity.
struct Norm {
  std::vector<double> mean, r, gamma, beta;
  double count;
  Norm(const Unit* unit, const double* stats, I C, double n, at::TensorList params) : mean(C), r(C), gamma(C, 1), beta(C, 0), count(n) {
    if (!unit) { std::fill(r.begin(), r.end(), 1); return; }
    for (I c = 0; c < C; ++c) { mean[c] = stats[c]; r[c] = 1 / std::sqrt(stats[C + c] + unit->eps); }
    if (!unit->affine) return;
    I at = unit->params + unit->convs();
    Tensor a = params[at].to(at::kDouble), b = params[at + 1].to(at::kDouble);
    std::copy_n(a.const_data_ptr<double>(), C, gamma.begin());
    std::copy_n(b.const_data_ptr<double>(), C, beta.begin());
  }
};

// t in channels_last memory
inline Tensor last(const Tensor& t) { return t.contiguous(at::MemoryFormat::ChannelsLast); }

inline Tensor fresh(const Tensor& like, I B, I C, I H, I W) {
  return at::empty({B, C, H, W}, like.options(), at::MemoryFormat::ChannelsLast);
}

inline Geometry geometry(const Tensor& x, I stride) { return {x.size(0), x.size(1), x.size(2), x.size(3), stride}; }

// Update running statistics. `at` counts the buffers used so far: mean, variance and counter of each tracked unit.
inline void move_running(const Unit& unit, const double* stats, I C, double n, at::TensorList buffers, size_t& at) {
  if (!unit.tracked) return;
  const Tensor &mean = buffers[at], &var = buffers[at + 1];
  buffers[at + 2].add_(1);
  at += 3;
  double unbias = n / std::max(n - 1, 1.0);
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), "running", [&] {
    scalar_t *m = mean.mutable_data_ptr<scalar_t>(), *v = var.mutable_data_ptr<scalar_t>();
    for (I c = 0; c < C; ++c) {
      m[c] += scalar_t(unit.momentum) * (scalar_t(stats[c]) - m[c]);
      v[c] += scalar_t(unit.momentum) * (scalar_t(stats[C + c] * unbias) - v[c]);
    }
  });
}

constexpr I TILE = 256;  // pixels of a sum that stay in the L1 cache

}  // namespace oche
