from plumbline.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Head(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAD_UNSPECIFIED: _ClassVar[Head]
    HEAD_HELPFULNESS: _ClassVar[Head]
    HEAD_SAFETY: _ClassVar[Head]
    HEAD_COMBINED: _ClassVar[Head]
HEAD_UNSPECIFIED: Head
HEAD_HELPFULNESS: Head
HEAD_SAFETY: Head
HEAD_COMBINED: Head

class RewardModels(_message.Message):
    __slots__ = ("helpfulness", "safety")
    HELPFULNESS_FIELD_NUMBER: _ClassVar[int]
    SAFETY_FIELD_NUMBER: _ClassVar[int]
    helpfulness: str
    safety: str
    def __init__(self, helpfulness: _Optional[str] = ..., safety: _Optional[str] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("pair", "risky")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    RISKY_FIELD_NUMBER: _ClassVar[int]
    pair: _types_pb2.PromptResponse
    risky: bool
    def __init__(self, pair: _Optional[_Union[_types_pb2.PromptResponse, _Mapping]] = ..., risky: _Optional[bool] = ...) -> None: ...

class ScoreResponsesRequest(_message.Message):
    __slots__ = ("items", "heads", "models")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    heads: _containers.RepeatedScalarFieldContainer[Head]
    models: RewardModels
    def __init__(self, items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., heads: _Optional[_Iterable[_Union[Head, str]]] = ..., models: _Optional[_Union[RewardModels, _Mapping]] = ...) -> None: ...

class ResponseScores(_message.Message):
    __slots__ = ("scores",)
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.ScalarMap[str, float]
    def __init__(self, scores: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScoreResponsesResponse(_message.Message):
    __slots__ = ("results", "reward_model_ids", "temperatures")
    class RewardModelIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TemperaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REWARD_MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ResponseScores]
    reward_model_ids: _containers.ScalarMap[str, str]
    temperatures: _containers.ScalarMap[str, float]
    def __init__(self, results: _Optional[_Iterable[_Union[ResponseScores, _Mapping]]] = ..., reward_model_ids: _Optional[_Mapping[str, str]] = ..., temperatures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ResponsePair(_message.Message):
    __slots__ = ("prompt", "response_a", "response_b", "risky")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_A_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_B_FIELD_NUMBER: _ClassVar[int]
    RISKY_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    response_a: str
    response_b: str
    risky: bool
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., response_a: _Optional[str] = ..., response_b: _Optional[str] = ..., risky: _Optional[bool] = ...) -> None: ...

class ComparePairsRequest(_message.Message):
    __slots__ = ("pairs", "head", "models", "judge")
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[ResponsePair]
    head: Head
    models: RewardModels
    judge: Judge
    def __init__(self, pairs: _Optional[_Iterable[_Union[ResponsePair, _Mapping]]] = ..., head: _Optional[_Union[Head, str]] = ..., models: _Optional[_Union[RewardModels, _Mapping]] = ..., judge: _Optional[_Union[Judge, _Mapping]] = ...) -> None: ...

class Judge(_message.Message):
    __slots__ = ("policy", "principles", "principles_per_question", "question", "answers", "seed", "tie_margin", "prompt_template")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PRINCIPLES_FIELD_NUMBER: _ClassVar[int]
    PRINCIPLES_PER_QUESTION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    principles: _containers.RepeatedScalarFieldContainer[str]
    principles_per_question: int
    question: str
    answers: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    tie_margin: float
    prompt_template: _types_pb2.PromptTemplate
    def __init__(self, policy: _Optional[str] = ..., principles: _Optional[_Iterable[str]] = ..., principles_per_question: _Optional[int] = ..., question: _Optional[str] = ..., answers: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., tie_margin: _Optional[float] = ..., prompt_template: _Optional[_Union[_types_pb2.PromptTemplate, str]] = ...) -> None: ...

class PairComparison(_message.Message):
    __slots__ = ("score_a", "score_b", "probability_a", "verdict")
    SCORE_A_FIELD_NUMBER: _ClassVar[int]
    SCORE_B_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_A_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    score_a: float
    score_b: float
    probability_a: float
    verdict: JudgeVerdict
    def __init__(self, score_a: _Optional[float] = ..., score_b: _Optional[float] = ..., probability_a: _Optional[float] = ..., verdict: _Optional[_Union[JudgeVerdict, _Mapping]] = ...) -> None: ...

class JudgeVerdict(_message.Message):
    __slots__ = ("probability_a_first", "probability_a_second", "orders_agree", "tie")
    PROBABILITY_A_FIRST_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_A_SECOND_FIELD_NUMBER: _ClassVar[int]
    ORDERS_AGREE_FIELD_NUMBER: _ClassVar[int]
    TIE_FIELD_NUMBER: _ClassVar[int]
    probability_a_first: float
    probability_a_second: float
    orders_agree: bool
    tie: bool
    def __init__(self, probability_a_first: _Optional[float] = ..., probability_a_second: _Optional[float] = ..., orders_agree: _Optional[bool] = ..., tie: _Optional[bool] = ...) -> None: ...

class JudgeAgreement(_message.Message):
    __slots__ = ("orders_agree", "place_bias", "ties")
    ORDERS_AGREE_FIELD_NUMBER: _ClassVar[int]
    PLACE_BIAS_FIELD_NUMBER: _ClassVar[int]
    TIES_FIELD_NUMBER: _ClassVar[int]
    orders_agree: float
    place_bias: float
    ties: int
    def __init__(self, orders_agree: _Optional[float] = ..., place_bias: _Optional[float] = ..., ties: _Optional[int] = ...) -> None: ...

class ComparePairsResponse(_message.Message):
    __slots__ = ("comparisons", "reward_model_ids", "judge_policy_id", "agreement")
    class RewardModelIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    REWARD_MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    JUDGE_POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    comparisons: _containers.RepeatedCompositeFieldContainer[PairComparison]
    reward_model_ids: _containers.ScalarMap[str, str]
    judge_policy_id: str
    agreement: JudgeAgreement
    def __init__(self, comparisons: _Optional[_Iterable[_Union[PairComparison, _Mapping]]] = ..., reward_model_ids: _Optional[_Mapping[str, str]] = ..., judge_policy_id: _Optional[str] = ..., agreement: _Optional[_Union[JudgeAgreement, _Mapping]] = ...) -> None: ...

class RankResponsesRequest(_message.Message):
    __slots__ = ("prompt", "responses", "head", "risky", "models")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    RISKY_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    responses: _containers.RepeatedScalarFieldContainer[str]
    head: Head
    risky: bool
    models: RewardModels
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., responses: _Optional[_Iterable[str]] = ..., head: _Optional[_Union[Head, str]] = ..., risky: _Optional[bool] = ..., models: _Optional[_Union[RewardModels, _Mapping]] = ...) -> None: ...

class RankedResponse(_message.Message):
    __slots__ = ("index", "score", "probability_best")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_BEST_FIELD_NUMBER: _ClassVar[int]
    index: int
    score: float
    probability_best: float
    def __init__(self, index: _Optional[int] = ..., score: _Optional[float] = ..., probability_best: _Optional[float] = ...) -> None: ...

class RankResponsesResponse(_message.Message):
    __slots__ = ("ranking", "reward_model_ids")
    class RewardModelIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RANKING_FIELD_NUMBER: _ClassVar[int]
    REWARD_MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    ranking: _containers.RepeatedCompositeFieldContainer[RankedResponse]
    reward_model_ids: _containers.ScalarMap[str, str]
    def __init__(self, ranking: _Optional[_Iterable[_Union[RankedResponse, _Mapping]]] = ..., reward_model_ids: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LoadRewardModelRequest(_message.Message):
    __slots__ = ("reward_model", "head")
    REWARD_MODEL_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    reward_model: str
    head: Head
    def __init__(self, reward_model: _Optional[str] = ..., head: _Optional[_Union[Head, str]] = ...) -> None: ...

class LoadRewardModelResponse(_message.Message):
    __slots__ = ("reward_model_id", "head", "architecture")
    REWARD_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    reward_model_id: str
    head: Head
    architecture: str
    def __init__(self, reward_model_id: _Optional[str] = ..., head: _Optional[_Union[Head, str]] = ..., architecture: _Optional[str] = ...) -> None: ...
