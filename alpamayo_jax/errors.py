"""The error of data from outside, alone so that what needs only NumPy can raise it."""


class InputError(ValueError):
    """Data from outside (a clip, an image, a pose) is not usable; the message names the place."""
