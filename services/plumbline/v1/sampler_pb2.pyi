from plumbline.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("id", "reference", "architecture", "parameters", "context_length", "vocabulary_size")
    ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    id: str
    reference: str
    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    def __init__(self, id: _Optional[str] = ..., reference: _Optional[str] = ..., architecture: _Optional[str] = ..., parameters: _Optional[int] = ..., context_length: _Optional[int] = ..., vocabulary_size: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("policy", "prompt", "parameters", "prompt_template")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    prompt: _types_pb2.Prompt
    parameters: _types_pb2.SamplingParameters
    prompt_template: _types_pb2.PromptTemplate
    def __init__(self, policy: _Optional[str] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., prompt_template: _Optional[_Union[_types_pb2.PromptTemplate, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("sequence", "delta", "token_ids", "logprobs", "finish_reason", "usage", "policy_id", "untempered_logprobs", "details")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    UNTEMPERED_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delta: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    finish_reason: _types_pb2.FinishReason
    usage: _types_pb2.Usage
    policy_id: str
    untempered_logprobs: _containers.RepeatedScalarFieldContainer[float]
    details: _containers.RepeatedCompositeFieldContainer[_types_pb2.TokenDetail]
    def __init__(self, sequence: _Optional[int] = ..., delta: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[float]] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., policy_id: _Optional[str] = ..., untempered_logprobs: _Optional[_Iterable[float]] = ..., details: _Optional[_Iterable[_Union[_types_pb2.TokenDetail, _Mapping]]] = ...) -> None: ...

class SampleResponsesRequest(_message.Message):
    __slots__ = ("policy", "prompts", "responses_per_prompt", "parameters", "temperatures", "seeds", "prompt_template")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_PER_PROMPT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURES_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    prompts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Prompt]
    responses_per_prompt: int
    parameters: _types_pb2.SamplingParameters
    temperatures: _containers.RepeatedScalarFieldContainer[float]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    prompt_template: _types_pb2.PromptTemplate
    def __init__(self, policy: _Optional[str] = ..., prompts: _Optional[_Iterable[_Union[_types_pb2.Prompt, _Mapping]]] = ..., responses_per_prompt: _Optional[int] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., temperatures: _Optional[_Iterable[float]] = ..., seeds: _Optional[_Iterable[int]] = ..., prompt_template: _Optional[_Union[_types_pb2.PromptTemplate, str]] = ...) -> None: ...

class PromptSamples(_message.Message):
    __slots__ = ("responses", "prompt_token_ids")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[_types_pb2.SampledResponse]
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, responses: _Optional[_Iterable[_Union[_types_pb2.SampledResponse, _Mapping]]] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class SampleResponsesResponse(_message.Message):
    __slots__ = ("samples", "policy_id", "usage")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[PromptSamples]
    policy_id: str
    usage: _types_pb2.Usage
    def __init__(self, samples: _Optional[_Iterable[_Union[PromptSamples, _Mapping]]] = ..., policy_id: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ...) -> None: ...

class ComputeLogprobsRequest(_message.Message):
    __slots__ = ("policy", "pairs", "prompt_template", "responses")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    policy: str
    pairs: _containers.RepeatedCompositeFieldContainer[_types_pb2.PromptResponse]
    prompt_template: _types_pb2.PromptTemplate
    responses: _containers.RepeatedCompositeFieldContainer[ResponseTokens]
    def __init__(self, policy: _Optional[str] = ..., pairs: _Optional[_Iterable[_Union[_types_pb2.PromptResponse, _Mapping]]] = ..., prompt_template: _Optional[_Union[_types_pb2.PromptTemplate, str]] = ..., responses: _Optional[_Iterable[_Union[ResponseTokens, _Mapping]]] = ...) -> None: ...

class ResponseTokens(_message.Message):
    __slots__ = ("token_ids",)
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("token_ids", "logprobs")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class ComputeLogprobsResponse(_message.Message):
    __slots__ = ("responses", "policy_id")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    policy_id: str
    def __init__(self, responses: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ..., policy_id: _Optional[str] = ...) -> None: ...

class LoadPolicyRequest(_message.Message):
    __slots__ = ("policy", "base")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    base: str
    def __init__(self, policy: _Optional[str] = ..., base: _Optional[str] = ...) -> None: ...

class LoadPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    def __init__(self, policy: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "default_policy")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_POLICY_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    default_policy: str
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., default_policy: _Optional[str] = ...) -> None: ...
