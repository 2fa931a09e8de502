"""The few calls of the CUDA driver that running an engine needs, without a package for it."""

import ctypes
from typing import Any

import numpy as np

_MAJOR, _MINOR = 75, 76  # attributes: compute capability


class DriverError(RuntimeError):
    """There is no CUDA driver or GPU, or a call failed; the message says which."""


class Driver:
    """The first GPU, its primary context current in this thread.

    Raises:
      DriverError: no driver, no GPU, or a driver that does not start.
    """

    def __init__(self, library: Any = None):
        if library is None:
            try:
                library = ctypes.CDLL("libcuda.so.1")
            except OSError as error:
                raise DriverError(f"there is no NVIDIA driver on this machine ({error})") from error
        self._library = library
        self._check("cuInit", 0)
        device = ctypes.c_int()
        self._check("cuDeviceGet", ctypes.byref(device), 0)
        self._context = ctypes.c_void_p()
        self._check("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._check("cuCtxSetCurrent", self._context)
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._check("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            numbers.append(value.value)
        self.target = f"sm{numbers[0]}{numbers[1]}"

    def allocate(self, nbytes: int) -> int:
        """Address of new device memory."""
        address = ctypes.c_uint64()
        self._check("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        return address.value

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self._check("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copies an array to the device."""
        array = np.ascontiguousarray(array)
        pointer = ctypes.c_void_p(array.ctypes.data)
        size = ctypes.c_size_t(array.nbytes)
        self._check("cuMemcpyHtoD_v2", ctypes.c_uint64(address), pointer, size)

    def download(self, array: np.ndarray, address: int) -> None:
        """Copies from the device into a contiguous array."""
        pointer = ctypes.c_void_p(array.ctypes.data)
        size = ctypes.c_size_t(array.nbytes)
        self._check("cuMemcpyDtoH_v2", pointer, ctypes.c_uint64(address), size)

    def wait(self) -> None:
        """Until everything that was started is done."""
        self._check("cuCtxSynchronize")

    def _check(self, name: str, *args: Any) -> None:
        code = getattr(self._library, name)(*args)
        if code:
            raise DriverError(f"the CUDA driver refuses {name} with error {code}")
