"""Every failure of this layer, so that a caller knows them before reading any code.

::

    AlignstreamError
    ├── ArtifactError          an encoder folder cannot be used
    │   ├── ArtifactIncomplete   a file is missing, or is not a plain file
    │   ├── ArtifactCorrupt      bytes differ from the manifest
    │   └── ArtifactMismatch     it is intact, but not what it claims to be
    ├── AdapterError           an adapter cannot be used
    │   ├── AdapterCorrupt       bytes, shapes or numbers are wrong
    │   └── AdapterMismatch      it belongs to another encoder
    ├── LabelsError            a label set or a template cannot be used
    ├── PackedCorrupt          a block of arrays is not what it should be
    └── RegistryError          the registry refused or could not answer
        ├── RegistryUnavailable  no answer in time
        ├── RegistryConflict     the pointer moved since it was read
        └── RegistryCorrupt      what was stored is not what was put there

A message says what is wrong, where, and what to do.
"""


class AlignstreamError(Exception):
    """Base of every error that a user can act on; shown without a traceback."""


class ArtifactError(AlignstreamError):
    """An encoder artifact cannot be used."""


class ArtifactIncomplete(ArtifactError):
    """A file of the artifact is missing, unreadable, or not a plain file."""


class ArtifactCorrupt(ArtifactError):
    """Bytes on disk differ from what the manifest recorded."""


class ArtifactMismatch(ArtifactError):
    """The files are intact, but the artifact does not do what its manifest says."""


class AdapterError(AlignstreamError):
    """An adapter cannot be used."""


class AdapterCorrupt(AdapterError):
    """Bytes, shapes or numbers of an adapter are wrong."""


class AdapterMismatch(AdapterError):
    """The adapter was fitted on another encoder than the one in use."""


class LabelsError(AlignstreamError):
    """A label set or a template cannot be used."""


class PackedCorrupt(AlignstreamError):
    """A block of arrays is too large, damaged, or of another kind."""


class RegistryError(AlignstreamError):
    """The registry refused, or could not answer."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer in time."""


class RegistryConflict(RegistryError):
    """The pointer moved between reading and writing it."""


class RegistryCorrupt(RegistryError):
    """What the registry holds is not what was put there."""
