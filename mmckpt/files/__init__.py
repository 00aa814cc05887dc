"""Files: any kind of checkpoint, looked at and read without running anything in it."""

from mmckpt.files.content import Content, open_file
from mmckpt.files.nodes import ArrayRef, Named, Opaque, TensorRef, tensors_in

__all__ = ['ArrayRef', 'Content', 'Named', 'Opaque', 'TensorRef', 'open_file', 'tensors_in']
