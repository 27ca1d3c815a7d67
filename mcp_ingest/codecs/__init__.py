"""Bytes in, values out: codecs do no I/O, know no clock and hold no task."""
