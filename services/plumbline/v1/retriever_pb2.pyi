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

class SearchMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_MODE_UNSPECIFIED: _ClassVar[SearchMode]
    SEARCH_MODE_DENSE: _ClassVar[SearchMode]
    SEARCH_MODE_LEXICAL: _ClassVar[SearchMode]

class CheckMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_MODE_UNSPECIFIED: _ClassVar[CheckMode]
    CHECK_MODE_SENTENCES: _ClassVar[CheckMode]

class ReplyOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLY_OUTCOME_UNSPECIFIED: _ClassVar[ReplyOutcome]
    REPLY_OUTCOME_ANSWERED: _ClassVar[ReplyOutcome]
    REPLY_OUTCOME_REVISED: _ClassVar[ReplyOutcome]
    REPLY_OUTCOME_REFUSED: _ClassVar[ReplyOutcome]
    REPLY_OUTCOME_FAILED_CLOSED: _ClassVar[ReplyOutcome]

class ClaimKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLAIM_KIND_UNSPECIFIED: _ClassVar[ClaimKind]
    CLAIM_KIND_KNOWLEDGE: _ClassVar[ClaimKind]
    CLAIM_KIND_ARITHMETIC: _ClassVar[ClaimKind]
    CLAIM_KIND_CODE: _ClassVar[ClaimKind]
    CLAIM_KIND_CITATION: _ClassVar[ClaimKind]

class ClaimVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLAIM_VERDICT_UNSPECIFIED: _ClassVar[ClaimVerdict]
    CLAIM_VERDICT_SUPPORTED: _ClassVar[ClaimVerdict]
    CLAIM_VERDICT_REFUTED: _ClassVar[ClaimVerdict]
    CLAIM_VERDICT_NOT_ENOUGH_EVIDENCE: _ClassVar[ClaimVerdict]
VALUE_KIND_UNSPECIFIED: ValueKind
VALUE_KIND_FIXED: ValueKind
VALUE_KIND_CUSTOMISABLE: ValueKind
VALUE_KIND_CHANGING: ValueKind
SEARCH_MODE_UNSPECIFIED: SearchMode
SEARCH_MODE_DENSE: SearchMode
SEARCH_MODE_LEXICAL: SearchMode
CHECK_MODE_UNSPECIFIED: CheckMode
CHECK_MODE_SENTENCES: CheckMode
REPLY_OUTCOME_UNSPECIFIED: ReplyOutcome
REPLY_OUTCOME_ANSWERED: ReplyOutcome
REPLY_OUTCOME_REVISED: ReplyOutcome
REPLY_OUTCOME_REFUSED: ReplyOutcome
REPLY_OUTCOME_FAILED_CLOSED: ReplyOutcome
CLAIM_KIND_UNSPECIFIED: ClaimKind
CLAIM_KIND_KNOWLEDGE: ClaimKind
CLAIM_KIND_ARITHMETIC: ClaimKind
CLAIM_KIND_CODE: ClaimKind
CLAIM_KIND_CITATION: ClaimKind
CLAIM_VERDICT_UNSPECIFIED: ClaimVerdict
CLAIM_VERDICT_SUPPORTED: ClaimVerdict
CLAIM_VERDICT_REFUTED: ClaimVerdict
CLAIM_VERDICT_NOT_ENOUGH_EVIDENCE: ClaimVerdict

class ValueSpec(_message.Message):
    __slots__ = ("id", "kind", "title", "text", "category", "triggers", "priority", "jurisdiction", "tenant", "language", "effective_from", "effective_to", "version", "audience", "supersedes", "source", "checkers", "content_digest")
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
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CHECKERS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
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
    audience: str
    supersedes: _containers.RepeatedScalarFieldContainer[str]
    source: str
    checkers: _containers.RepeatedScalarFieldContainer[str]
    content_digest: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[ValueKind, str]] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., category: _Optional[str] = ..., triggers: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., jurisdiction: _Optional[str] = ..., tenant: _Optional[str] = ..., language: _Optional[str] = ..., effective_from: _Optional[str] = ..., effective_to: _Optional[str] = ..., version: _Optional[int] = ..., audience: _Optional[str] = ..., supersedes: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ..., checkers: _Optional[_Iterable[str]] = ..., content_digest: _Optional[str] = ...) -> None: ...

class ValueFilter(_message.Message):
    __slots__ = ("as_of", "jurisdiction", "tenant", "audience", "categories", "kinds")
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    JURISDICTION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    as_of: str
    jurisdiction: str
    tenant: str
    audience: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[ValueKind]
    def __init__(self, as_of: _Optional[str] = ..., jurisdiction: _Optional[str] = ..., tenant: _Optional[str] = ..., audience: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[ValueKind, str]]] = ...) -> None: ...

class ImportValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "values", "dry_run", "replace_all", "expected_artifact", "values_artifact", "complete_sources", "revoked", "max_changes")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REPLACE_ALL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    VALUES_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_SOURCES_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    MAX_CHANGES_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    values: _containers.RepeatedCompositeFieldContainer[ValueSpec]
    dry_run: bool
    replace_all: bool
    expected_artifact: str
    values_artifact: str
    complete_sources: _containers.RepeatedScalarFieldContainer[str]
    revoked: _containers.RepeatedScalarFieldContainer[str]
    max_changes: int
    def __init__(self, knowledge_base: _Optional[str] = ..., values: _Optional[_Iterable[_Union[ValueSpec, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., replace_all: _Optional[bool] = ..., expected_artifact: _Optional[str] = ..., values_artifact: _Optional[str] = ..., complete_sources: _Optional[_Iterable[str]] = ..., revoked: _Optional[_Iterable[str]] = ..., max_changes: _Optional[int] = ...) -> None: ...

class ValueChange(_message.Message):
    __slots__ = ("action", "value_id", "version_before", "version_after", "fields", "text_diff")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[ValueChange.Action]
        ACTION_ADDED: _ClassVar[ValueChange.Action]
        ACTION_CHANGED: _ClassVar[ValueChange.Action]
        ACTION_REMOVED: _ClassVar[ValueChange.Action]
        ACTION_ENDED: _ClassVar[ValueChange.Action]
    ACTION_UNSPECIFIED: ValueChange.Action
    ACTION_ADDED: ValueChange.Action
    ACTION_CHANGED: ValueChange.Action
    ACTION_REMOVED: ValueChange.Action
    ACTION_ENDED: ValueChange.Action
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_BEFORE_FIELD_NUMBER: _ClassVar[int]
    VERSION_AFTER_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_DIFF_FIELD_NUMBER: _ClassVar[int]
    action: ValueChange.Action
    value_id: str
    version_before: int
    version_after: int
    fields: _containers.RepeatedScalarFieldContainer[str]
    text_diff: str
    def __init__(self, action: _Optional[_Union[ValueChange.Action, str]] = ..., value_id: _Optional[str] = ..., version_before: _Optional[int] = ..., version_after: _Optional[int] = ..., fields: _Optional[_Iterable[str]] = ..., text_diff: _Optional[str] = ...) -> None: ...

class ImportValuesResponse(_message.Message):
    __slots__ = ("artifact", "added", "changed", "unchanged", "removed", "ended", "changes", "changes_omitted", "previous_artifact")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_OMITTED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    added: int
    changed: int
    unchanged: int
    removed: int
    ended: int
    changes: _containers.RepeatedCompositeFieldContainer[ValueChange]
    changes_omitted: int
    previous_artifact: str
    def __init__(self, artifact: _Optional[str] = ..., added: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ..., removed: _Optional[int] = ..., ended: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[ValueChange, _Mapping]]] = ..., changes_omitted: _Optional[int] = ..., previous_artifact: _Optional[str] = ...) -> None: ...

class ListValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "page_size", "page_token", "filter", "source")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    page_size: int
    page_token: str
    filter: ValueFilter
    source: str
    def __init__(self, knowledge_base: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., source: _Optional[str] = ...) -> None: ...

class ListValuesResponse(_message.Message):
    __slots__ = ("values", "next_page_token")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[ValueSpec]
    next_page_token: str
    def __init__(self, values: _Optional[_Iterable[_Union[ValueSpec, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetValueRequest(_message.Message):
    __slots__ = ("knowledge_base", "value_id", "version")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    value_id: str
    version: int
    def __init__(self, knowledge_base: _Optional[str] = ..., value_id: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class GetValueResponse(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: ValueSpec
    def __init__(self, value: _Optional[_Union[ValueSpec, _Mapping]] = ...) -> None: ...

class DiffKnowledgeBasesRequest(_message.Message):
    __slots__ = ("before", "after", "page_size", "page_token")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    page_size: int
    page_token: str
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DiffKnowledgeBasesResponse(_message.Message):
    __slots__ = ("changes", "before_artifact", "after_artifact", "next_page_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    AFTER_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ValueChange]
    before_artifact: str
    after_artifact: str
    next_page_token: str
    def __init__(self, changes: _Optional[_Iterable[_Union[ValueChange, _Mapping]]] = ..., before_artifact: _Optional[str] = ..., after_artifact: _Optional[str] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class TagKnowledgeBaseRequest(_message.Message):
    __slots__ = ("knowledge_base", "tag", "target", "expected_artifact")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    tag: str
    target: str
    expected_artifact: str
    def __init__(self, knowledge_base: _Optional[str] = ..., tag: _Optional[str] = ..., target: _Optional[str] = ..., expected_artifact: _Optional[str] = ...) -> None: ...

class TagKnowledgeBaseResponse(_message.Message):
    __slots__ = ("artifact", "previous_artifact")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    previous_artifact: str
    def __init__(self, artifact: _Optional[str] = ..., previous_artifact: _Optional[str] = ...) -> None: ...

class ListKnowledgeBaseStatesRequest(_message.Message):
    __slots__ = ("knowledge_base", "page_size", "page_token")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    page_size: int
    page_token: str
    def __init__(self, knowledge_base: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class KnowledgeBaseState(_message.Message):
    __slots__ = ("artifact", "values", "created_at", "tags")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    values: int
    created_at: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, artifact: _Optional[str] = ..., values: _Optional[int] = ..., created_at: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class ListKnowledgeBaseStatesResponse(_message.Message):
    __slots__ = ("states", "next_page_token")
    STATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[KnowledgeBaseState]
    next_page_token: str
    def __init__(self, states: _Optional[_Iterable[_Union[KnowledgeBaseState, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RetrieveValuesRequest(_message.Message):
    __slots__ = ("knowledge_base", "query", "filter", "k", "mode", "rerank", "diversity")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    query: str
    filter: ValueFilter
    k: int
    mode: SearchMode
    rerank: bool
    diversity: float
    def __init__(self, knowledge_base: _Optional[str] = ..., query: _Optional[str] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., k: _Optional[int] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., rerank: _Optional[bool] = ..., diversity: _Optional[float] = ...) -> None: ...

class RetrievedValue(_message.Message):
    __slots__ = ("value", "score", "dense_score", "lexical_score", "rerank_score")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DENSE_SCORE_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    RERANK_SCORE_FIELD_NUMBER: _ClassVar[int]
    value: ValueSpec
    score: float
    dense_score: float
    lexical_score: float
    rerank_score: float
    def __init__(self, value: _Optional[_Union[ValueSpec, _Mapping]] = ..., score: _Optional[float] = ..., dense_score: _Optional[float] = ..., lexical_score: _Optional[float] = ..., rerank_score: _Optional[float] = ...) -> None: ...

class RetrieveValuesResponse(_message.Message):
    __slots__ = ("values", "artifact")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[RetrievedValue]
    artifact: str
    def __init__(self, values: _Optional[_Iterable[_Union[RetrievedValue, _Mapping]]] = ..., artifact: _Optional[str] = ...) -> None: ...

class RespondRequest(_message.Message):
    __slots__ = ("knowledge_base", "policy", "prompt", "filter", "parameters", "system_message", "best_of", "max_revisions", "check_mode", "claim_kinds")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BEST_OF_FIELD_NUMBER: _ClassVar[int]
    MAX_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    CHECK_MODE_FIELD_NUMBER: _ClassVar[int]
    CLAIM_KINDS_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    policy: str
    prompt: _types_pb2.Prompt
    filter: ValueFilter
    parameters: _types_pb2.SamplingParameters
    system_message: str
    best_of: int
    max_revisions: int
    check_mode: CheckMode
    claim_kinds: _containers.RepeatedScalarFieldContainer[ClaimKind]
    def __init__(self, knowledge_base: _Optional[str] = ..., policy: _Optional[str] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., system_message: _Optional[str] = ..., best_of: _Optional[int] = ..., max_revisions: _Optional[int] = ..., check_mode: _Optional[_Union[CheckMode, str]] = ..., claim_kinds: _Optional[_Iterable[_Union[ClaimKind, str]]] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("value_id", "version", "content_digest", "verdict", "why", "title")
    VALUE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    value_id: str
    version: int
    content_digest: str
    verdict: str
    why: str
    title: str
    def __init__(self, value_id: _Optional[str] = ..., version: _Optional[int] = ..., content_digest: _Optional[str] = ..., verdict: _Optional[str] = ..., why: _Optional[str] = ..., title: _Optional[str] = ...) -> None: ...

class ValueConflict(_message.Message):
    __slots__ = ("kept", "dropped", "decided_by", "why")
    KEPT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    kept: Citation
    dropped: Citation
    decided_by: str
    why: str
    def __init__(self, kept: _Optional[_Union[Citation, _Mapping]] = ..., dropped: _Optional[_Union[Citation, _Mapping]] = ..., decided_by: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("reply", "broken", "why")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    reply: str
    broken: _containers.RepeatedCompositeFieldContainer[Citation]
    why: str
    def __init__(self, reply: _Optional[str] = ..., broken: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., why: _Optional[str] = ...) -> None: ...

class RespondResponse(_message.Message):
    __slots__ = ("sequence", "delta", "finish_reason", "citations", "policy_id", "knowledge_base_artifact", "usage", "restart", "outcome", "why", "risk_category", "scores", "reward_model_ids", "conflicts", "left_out", "revisions", "system_message", "claims", "reply_id")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class RewardModelIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASE_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    RISK_CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    REWARD_MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    REPLY_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delta: str
    finish_reason: _types_pb2.FinishReason
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    policy_id: str
    knowledge_base_artifact: str
    usage: _types_pb2.Usage
    restart: bool
    outcome: ReplyOutcome
    why: str
    risk_category: str
    scores: _containers.ScalarMap[str, float]
    reward_model_ids: _containers.ScalarMap[str, str]
    conflicts: _containers.RepeatedCompositeFieldContainer[ValueConflict]
    left_out: _containers.RepeatedCompositeFieldContainer[Citation]
    revisions: _containers.RepeatedCompositeFieldContainer[Revision]
    system_message: Citation
    claims: _containers.RepeatedCompositeFieldContainer[ClaimCheck]
    reply_id: str
    def __init__(self, sequence: _Optional[int] = ..., delta: _Optional[str] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., policy_id: _Optional[str] = ..., knowledge_base_artifact: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., restart: _Optional[bool] = ..., outcome: _Optional[_Union[ReplyOutcome, str]] = ..., why: _Optional[str] = ..., risk_category: _Optional[str] = ..., scores: _Optional[_Mapping[str, float]] = ..., reward_model_ids: _Optional[_Mapping[str, str]] = ..., conflicts: _Optional[_Iterable[_Union[ValueConflict, _Mapping]]] = ..., left_out: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., revisions: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ..., system_message: _Optional[_Union[Citation, _Mapping]] = ..., claims: _Optional[_Iterable[_Union[ClaimCheck, _Mapping]]] = ..., reply_id: _Optional[str] = ...) -> None: ...

class GetReplyRecordRequest(_message.Message):
    __slots__ = ("reply_id", "page_size", "page_token")
    REPLY_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    reply_id: str
    page_size: int
    page_token: str
    def __init__(self, reply_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetReplyRecordResponse(_message.Message):
    __slots__ = ("reply_id", "responded_at", "filter", "prompt", "reply", "decision", "values_in_force", "next_page_token", "values_in_force_count")
    REPLY_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONDED_AT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    VALUES_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VALUES_IN_FORCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    reply_id: str
    responded_at: str
    filter: ValueFilter
    prompt: _types_pb2.Prompt
    reply: str
    decision: RespondResponse
    values_in_force: _containers.RepeatedCompositeFieldContainer[ValueSpec]
    next_page_token: str
    values_in_force_count: int
    def __init__(self, reply_id: _Optional[str] = ..., responded_at: _Optional[str] = ..., filter: _Optional[_Union[ValueFilter, _Mapping]] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., reply: _Optional[str] = ..., decision: _Optional[_Union[RespondResponse, _Mapping]] = ..., values_in_force: _Optional[_Iterable[_Union[ValueSpec, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., values_in_force_count: _Optional[int] = ...) -> None: ...

class EvidenceDocument(_message.Message):
    __slots__ = ("id", "title", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    text: str
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CheckFactualityRequest(_message.Message):
    __slots__ = ("text", "prompt", "kinds", "documents", "corpus", "policy", "claims", "assertions")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    ASSERTIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    prompt: str
    kinds: _containers.RepeatedScalarFieldContainer[ClaimKind]
    documents: _containers.RepeatedCompositeFieldContainer[EvidenceDocument]
    corpus: str
    policy: str
    claims: _containers.RepeatedScalarFieldContainer[str]
    assertions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, text: _Optional[str] = ..., prompt: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[ClaimKind, str]]] = ..., documents: _Optional[_Iterable[_Union[EvidenceDocument, _Mapping]]] = ..., corpus: _Optional[str] = ..., policy: _Optional[str] = ..., claims: _Optional[_Iterable[str]] = ..., assertions: _Optional[_Iterable[str]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("document_id", "text", "score")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    text: str
    score: float
    def __init__(self, document_id: _Optional[str] = ..., text: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class ClaimCheck(_message.Message):
    __slots__ = ("kind", "claim", "start", "end", "queries", "evidence", "verdict", "why", "correction")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    kind: ClaimKind
    claim: str
    start: int
    end: int
    queries: _containers.RepeatedScalarFieldContainer[str]
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    verdict: ClaimVerdict
    why: str
    correction: str
    def __init__(self, kind: _Optional[_Union[ClaimKind, str]] = ..., claim: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., queries: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., verdict: _Optional[_Union[ClaimVerdict, str]] = ..., why: _Optional[str] = ..., correction: _Optional[str] = ...) -> None: ...

class CheckFactualityResponse(_message.Message):
    __slots__ = ("claims", "factual")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    FACTUAL_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.RepeatedCompositeFieldContainer[ClaimCheck]
    factual: bool
    def __init__(self, claims: _Optional[_Iterable[_Union[ClaimCheck, _Mapping]]] = ..., factual: _Optional[bool] = ...) -> None: ...
