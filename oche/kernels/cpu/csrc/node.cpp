// The node of a supernet for the type NUMBER.
#include "entries.h"
#include "node_backward.h"

namespace oche {

template <typename T>
std::tuple<Tensor, Tensors> node_forward_of(const Tensors& xs, const Tensors& given, const Tensor& w, at::TensorList params,
    at::TensorList buffers, at::TensorList given_stats, at::IntArrayRef code, at::ArrayRef<double> numbers) {
  Tensors saved;
  Tensor out = node_forward_<T>(xs, given, w, params, buffers, given_stats, parse(code, numbers), saved);
  return {out, saved};
}

template <typename T>
std::tuple<Tensor, Tensors, Tensors, Tensors> node_backward_of(const Tensor& g, const Tensors& xs, const Tensors& given, const Tensor& w,
    at::TensorList params, at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, at::IntArrayRef need_x,
    at::IntArrayRef need_given, bool need_w) {
  const std::vector<Term> terms = parse(code, numbers);
  NodeBackward<T> node{g, xs, given, params, terms, need_x, need_given, need_w, {}, {}, {}, {}};
  node.run(w, saved);
  return {node.gw, node.gxs, node.ggiven, node.gparams};
}

template std::tuple<Tensor, Tensors> node_forward_of<NUMBER>(const Tensors&, const Tensors&, const Tensor&, at::TensorList,
    at::TensorList, at::TensorList, at::IntArrayRef, at::ArrayRef<double>);
template std::tuple<Tensor, Tensors, Tensors, Tensors> node_backward_of<NUMBER>(const Tensor&, const Tensors&, const Tensors&,
    const Tensor&, at::TensorList, at::IntArrayRef, at::ArrayRef<double>, at::TensorList, at::IntArrayRef, at::IntArrayRef, bool);

}  // namespace oche
