// The discrete cell for the type NUMBER.
#include "discrete_backward.h"
#include "entries.h"

namespace oche {

template <typename T>
std::tuple<Tensor, Tensors> cell_forward_of(const Tensors& inputs, const Tensor& factors, at::TensorList params,
    at::TensorList buffers, at::IntArrayRef code, at::ArrayRef<double> numbers, bool bf16) {
  CellForward<T> cell(code, numbers, params, factors, bf16);
  cell.run(inputs, buffers);
  return {cell.out, cell.saved()};
}

template <typename T>
std::tuple<Tensors, Tensors> cell_backward_of(const Tensor& g, const Tensors& inputs, const Tensor& factors, at::TensorList params,
    at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, bool bf16) {
  CellBackward<T> cell(code, numbers, params, factors, bf16);
  cell.run(g, inputs, saved);
  return {Tensors(cell.g.begin(), cell.g.begin() + inputs.size()), cell.gparams};
}

template std::tuple<Tensor, Tensors> cell_forward_of<NUMBER>(const Tensors&, const Tensor&, at::TensorList, at::TensorList,
    at::IntArrayRef, at::ArrayRef<double>, bool);
template std::tuple<Tensors, Tensors> cell_backward_of<NUMBER>(const Tensor&, const Tensors&, const Tensor&, at::TensorList,
    at::IntArrayRef, at::ArrayRef<double>, at::TensorList, bool);

}  // namespace oche
