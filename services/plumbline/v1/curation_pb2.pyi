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
    ANONYMIZE_ACTION_KEEP: _ClassVar[AnonymizeAction]
    ANONYMIZE_ACTION_PSEUDONYMISE: _ClassVar[AnonymizeAction]
ANONYMIZE_ACTION_UNSPECIFIED: AnonymizeAction
ANONYMIZE_ACTION_REDACT: AnonymizeAction
ANONYMIZE_ACTION_MASK: AnonymizeAction
ANONYMIZE_ACTION_KEEP: AnonymizeAction
ANONYMIZE_ACTION_PSEUDONYMISE: AnonymizeAction

class FilterDocumentsRequest(_message.Message):
    __slots__ = ("document_id", "text")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class FilterDocumentsResponse(_message.Message):
    __slots__ = ("document_id", "kept", "reason", "detail", "language", "code")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    kept: bool
    reason: str
    detail: str
    language: str
    code: str
    def __init__(self, document_id: _Optional[str] = ..., kept: _Optional[bool] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., language: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class AnonymizeOptions(_message.Message):
    __slots__ = ("actions", "types", "min_confidence", "key", "tenant", "scope")
    class ActionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AnonymizeAction
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AnonymizeAction, str]] = ...) -> None: ...
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.ScalarMap[str, AnonymizeAction]
    types: _containers.RepeatedScalarFieldContainer[str]
    min_confidence: float
    key: str
    tenant: str
    scope: str
    def __init__(self, actions: _Optional[_Mapping[str, AnonymizeAction]] = ..., types: _Optional[_Iterable[str]] = ..., min_confidence: _Optional[float] = ..., key: _Optional[str] = ..., tenant: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("text", "action", "options")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    action: AnonymizeAction
    options: AnonymizeOptions
    def __init__(self, text: _Optional[str] = ..., action: _Optional[_Union[AnonymizeAction, str]] = ..., options: _Optional[_Union[AnonymizeOptions, _Mapping]] = ...) -> None: ...

class AnonymizeTextResponse(_message.Message):
    __slots__ = ("text", "spans")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    text: str
    spans: _containers.RepeatedCompositeFieldContainer[PiiSpan]
    def __init__(self, text: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[PiiSpan, _Mapping]]] = ...) -> None: ...

class StreamAnonymizeTextRequest(_message.Message):
    __slots__ = ("document_id", "text", "action", "options")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    action: AnonymizeAction
    options: AnonymizeOptions
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ..., action: _Optional[_Union[AnonymizeAction, str]] = ..., options: _Optional[_Union[AnonymizeOptions, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("request_id", "corpus", "config", "filters", "descriptors")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    corpus: str
    config: _struct_pb2.Struct
    filters: _containers.RepeatedScalarFieldContainer[str]
    descriptors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., corpus: _Optional[str] = ..., config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., filters: _Optional[_Iterable[str]] = ..., descriptors: _Optional[_Iterable[str]] = ...) -> None: ...

class AnalyzeCorpusResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _jobs_pb2.Job
    def __init__(self, job: _Optional[_Union[_jobs_pb2.Job, _Mapping]] = ...) -> None: ...

class CurateCorpusRequest(_message.Message):
    __slots__ = ("request_id", "corpus", "config", "filters")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    corpus: str
    config: _struct_pb2.Struct
    filters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., corpus: _Optional[str] = ..., config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., filters: _Optional[_Iterable[str]] = ...) -> None: ...

class CurateCorpusResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _jobs_pb2.Job
    def __init__(self, job: _Optional[_Union[_jobs_pb2.Job, _Mapping]] = ...) -> None: ...
