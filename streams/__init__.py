"""Bytes in, bytes out: the Kafka side of the service, on Faust.

Imports ``alignstream.models`` only, never ``export`` or ``ops``, never torch.
"""

if __name__ != "alignstream.streams":
    # Under another name Python would build a second, empty Faust app beside the real one.
    raise ImportError(
        f"this package is 'alignstream.streams', but it was imported as {__name__!r}; "
        "start the service with 'alignstream worker'"
    )
