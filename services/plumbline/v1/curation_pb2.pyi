from google.protobuf import struct_pb2 as _struct_pb2
from plumbline.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnonymizeAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANONYMIZE_ACTION_UNSPECIFIED: _ClassVar[AnonymizeAction]
    ANONYMIZE_ACTION_REDACT: _ClassVar[AnonymizeAction]
    ANONYMIZE_ACTION_MASK: _ClassVar[AnonymizeAction]
ANONYMIZE_ACTION_UNSPECIFIED: AnonymizeAction
ANONYMIZE_ACTION_REDACT: AnonymizeAction
ANONYMIZE_ACTION_MASK: AnonymizeAction

class FilterDocumentsRequest(_message.Message):
    __slots__ = ("document_id", "text")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class FilterDocumentsResponse(_message.Message):
    __slots__ = ("document_id", "kept", "reason", "detail", "language")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    kept: bool
    reason: str
    detail: str
    language: str
    def __init__(self, document_id: _Optional[str] = ..., kept: _Optional[bool] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., language: _Optional[str] = ...) -> None: ...

class PiiSpan(_message.Message):
    __slots__ = ("start", "end", "type", "confidence", "replacement")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    type: str
    confidence: float
    replacement: str
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., type: _Optional[str] = ..., confidence: _Optional[float] = ..., replacement: _Optional[str] = ...) -> None: ...

class AnonymizeTextRequest(_message.Message):
    __slots__ = ("text", "action")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    text: str
    action: AnonymizeAction
    def __init__(self, text: _Optional[str] = ..., action: _Optional[_Union[AnonymizeAction, str]] = ...) -> None: ...

class AnonymizeTextResponse(_message.Message):
    __slots__ = ("text", "spans")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    text: str
    spans: _containers.RepeatedCompositeFieldContainer[PiiSpan]
    def __init__(self, text: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[PiiSpan, _Mapping]]] = ...) -> None: ...

class StreamAnonymizeTextRequest(_message.Message):
    __slots__ = ("document_id", "text", "action")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    action: AnonymizeAction
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ..., action: _Optional[_Union[AnonymizeAction, str]] = ...) -> None: ...

class StreamAnonymizeTextResponse(_message.Message):
    __slots__ = ("document_id", "text", "spans")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    spans: _containers.RepeatedCompositeFieldContainer[PiiSpan]
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[PiiSpan, _Mapping]]] = ...) -> None: ...

class AnalyzeCorpusRequest(_message.Message):
    __slots__ = ("request_id", "corpus")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    corpus: str
    def __init__(self, request_id: _Optional[str] = ..., corpus: _Optional[str] = ...) -> None: ...

class AnalyzeCorpusResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _jobs_pb2.Job
    def __init__(self, job: _Optional[_Union[_jobs_pb2.Job, _Mapping]] = ...) -> None: ...

class CurateCorpusRequest(_message.Message):
    __slots__ = ("request_id", "corpus", "config")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    corpus: str
    config: _struct_pb2.Struct
    def __init__(self, request_id: _Optional[str] = ..., corpus: _Optional[str] = ..., config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class CurateCorpusResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _jobs_pb2.Job
    def __init__(self, job: _Optional[_Union[_jobs_pb2.Job, _Mapping]] = ...) -> None: ...
