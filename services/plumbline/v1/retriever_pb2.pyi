from plumbline.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ValueKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_KIND_UNSPECIFIED: _ClassVar[ValueKind]
    VALUE_KIND_FIXED: _ClassVar[ValueKind]
    VALUE_KIND_CUSTOMISABLE: _ClassVar[ValueKind]
    VALUE_KIND_CHANGING: _ClassVar[ValueKind]
VALUE_KIND_UNSPECIFIED: ValueKind
VALUE_KIND_FIXED: ValueKind
VALUE_KIND_CUSTOMISABLE: ValueKind
VALUE_KIND_CHANGING: ValueKind

class ValueSpec(_message.Message):
    __slots__ = ("id", "kind", "title", "text", "category", "triggers", "priority", "jurisdiction", "tenant", "language", "effective_from", "effective_to", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    JURISDICTION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FROM_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TO_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: ValueKind
    title: str
    text: str
    category: str
    triggers: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    jurisdiction: str
    tenant: str
    language: str
    effective_from: str
    effective_to: str
    version: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[ValueKind, str]] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., category: _Optional[str] = ..., triggers: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., jurisdiction: _Optional[str] = ..., tenant: _Optional[str] = ..., language: _Optional[str] = ..., effective_from: _Optional[str] = ..., effective_to: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ValueFilter(_message.Message):
    __slots__ = ("as_of", "jurisdiction", "tenant")
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    JURISDICTION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    as_of: str
    jurisdiction: str
    tenant: str
    def __init__(self, as_of: _Optional[str] = ..., jurisdiction: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class ImportValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "values", "dry_run", "replace_all")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REPLACE_ALL_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    values: _containers.RepeatedCompositeFieldContainer[ValueSpec]
    dry_run: bool
    replace_all: bool
    def __init__(self, knowledge_base: _Optional[str] = ..., values: _Optional[_Iterable[_Union[ValueSpec, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., replace_all: _Optional[bool] = ...) -> None: ...

class ImportValuesResponse(_message.Message):
    __slots__ = ("artifact", "added", "changed", "unchanged", "removed")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    added: int
    changed: int
    unchanged: int
    removed: int
    def __init__(self, artifact: _Optional[str] = ..., added: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ..., removed: _Optional[int] = ...) -> None: ...

class ListValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "page_size", "page_token")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    page_size: int
    page_token: str
    def __init__(self, knowledge_base: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListValuesResponse(_message.Message):
    __slots__ = ("values", "next_page_token")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[ValueSpec]
    next_page_token: str
    def __init__(self, values: _Optional[_Iterable[_Union[ValueSpec, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetValueRequest(_message.Message):
    __slots__ = ("knowledge_base", "value_id")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_ID_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    value_id: str
    def __init__(self, knowledge_base: _Optional[str] = ..., value_id: _Optional[str] = ...) -> None: ...

class GetValueResponse(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: ValueSpec
    def __init__(self, value: _Optional[_Union[ValueSpec, _Mapping]] = ...) -> None: ...

class RetrieveValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "query", "filter", "k")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    query: str
    filter: ValueFilter
    k: int
    def __init__(self, knowledge_base: _Optional[str] = ..., query: _Optional[str] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., k: _Optional[int] = ...) -> None: ...

class RetrievedValue(_message.Message):
    __slots__ = ("value", "score", "dense_score", "lexical_score")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DENSE_SCORE_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    value: ValueSpec
    score: float
    dense_score: float
    lexical_score: float
    def __init__(self, value: _Optional[_Union[ValueSpec, _Mapping]] = ..., score: _Optional[float] = ..., dense_score: _Optional[float] = ..., lexical_score: _Optional[float] = ...) -> None: ...

class RetrieveValuesResponse(_message.Message):
    __slots__ = ("values", "artifact")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[RetrievedValue]
    artifact: str
    def __init__(self, values: _Optional[_Iterable[_Union[RetrievedValue, _Mapping]]] = ..., artifact: _Optional[str] = ...) -> None: ...

class RespondRequest(_message.Message):
    __slots__ = ("knowledge_base", "policy", "prompt", "filter", "parameters")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    policy: str
    prompt: _types_pb2.Prompt
    filter: ValueFilter
    parameters: _types_pb2.SamplingParameters
    def __init__(self, knowledge_base: _Optional[str] = ..., policy: _Optional[str] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("value_id", "version", "content_digest", "verdict")
    VALUE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    value_id: str
    version: int
    content_digest: str
    verdict: str
    def __init__(self, value_id: _Optional[str] = ..., version: _Optional[int] = ..., content_digest: _Optional[str] = ..., verdict: _Optional[str] = ...) -> None: ...

class RespondResponse(_message.Message):
    __slots__ = ("sequence", "delta", "finish_reason", "citations", "policy_id", "knowledge_base_artifact", "usage")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASE_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delta: str
    finish_reason: _types_pb2.FinishReason
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    policy_id: str
    knowledge_base_artifact: str
    usage: _types_pb2.Usage
    def __init__(self, sequence: _Optional[int] = ..., delta: _Optional[str] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., policy_id: _Optional[str] = ..., knowledge_base_artifact: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ...) -> None: ...
