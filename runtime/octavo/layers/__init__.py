"""Layers. The parts a decoder is made of. Plain callables over tensors, without autograd or module hooks.

They are not `nn.Module`s: attribute look-up and hook dispatch there cost more than the arithmetic of a
small model's decode step.
"""
