"""Projectors: tokens and widths, where they start, what they refuse, and exact names."""

from typing import Any

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.projectors import PROJECTORS
from tests.tiny.projectors import SMALL_HEADS, build, contract

CASES: list[tuple[str, dict[str, Any], int, tuple[str, ...]]] = [
    ("linear", {}, 36, ("llava",)),
    ("mlp", {}, 36, ("fast_vlm", "llava", "deepseek_vl")),
    ("pixel_shuffle_linear", {}, 9, ("smolvlm", "idefics3")),
    ("pixel_shuffle_linear", {"factor": 1}, 36, ("smolvlm", "idefics3")),
    ("pixel_shuffle_linear", {"factor": 3}, 4, ("smolvlm", "idefics3")),
    ("pixel_shuffle_mlp", {"width": 20}, 9, ("lfm2_vl",)),
    ("pixel_shuffle_mlp", {"layernorm": True}, 9, ("lfm2_vl", "internvl")),
    ("pixel_shuffle_mlp", {"layernorm": True, "width": 20}, 9, ("lfm2_vl",)),
    ("ln_pixel_shuffle_mlp", {}, 9, ("internvl", "lfm2_vl")),
    ("ln_pixel_shuffle_mlp", {"factor": 3}, 4, ("lfm2_vl",)),
    ("mlp_avg_pool", {}, 9, ("perception_lm",)),
    ("mlp_avg_pool", {"ratio": 4}, 1, ("perception_lm",)),
    ("mlp_avg_pool", {"ratio": 1}, 36, ("perception_lm",)),
    ("ldp_v2", {}, 9, ()),
    ("perceiver", SMALL_HEADS, 5, ()),
]
NAMES = [f"{name}-{'-'.join(options)}" for name, options, *_ in CASES]


def test_every_projector_is_tried() -> None:
    assert {name for name, *_ in CASES} == set(PROJECTORS)


@pytest.mark.parametrize(("name", "options", "tokens", "native"), CASES, ids=NAMES)
def test_tokens_width_and_native_classes(name: str, options: Any, tokens: int, native: tuple[str, ...]) -> None:
    projector = build(name, contract(), **options)
    assert projector.tokens_out() == tokens
    assert projector(torch.randn(2, 36, 24)).shape == (2, tokens, 32)
    assert projector.native_classes == native
    assert set(native) <= set(PROJECTORS.get(name).native_classes)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "options", "tokens", "native"), CASES, ids=NAMES)
def test_the_start_is_as_large_as_the_token_embeddings(
    name: str, options: Any, tokens: int, native: tuple[str, ...]
) -> None:
    projector = build(name, contract(), hidden=64, **options)
    out = projector(torch.randn(200, 36, 24, generator=torch.Generator().manual_seed(1)))
    assert float(out.detach().std()) == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize(("name", "options", "tokens", "native"), CASES, ids=NAMES)
def test_gradients_reach_all_parameters_and_the_features(
    name: str, options: Any, tokens: int, native: tuple[str, ...]
) -> None:
    projector = build(name, contract(), **options)
    features = torch.randn(2, 36, 24, requires_grad=True)
    (projector(features) ** 2).sum().backward()
    for parameter, tensor in [*projector.named_parameters(), ("features", features)]:
        assert tensor.grad is not None, parameter
        assert tensor.grad.abs().sum() > 0, parameter


def test_latents_do_not_begin_equal() -> None:
    tokens = build("perceiver", contract(), **SMALL_HEADS)(torch.randn(1, 36, 24))[0]
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3)


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_all_are_built_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        projector = build(name, contract())
        assert projector(torch.empty(1, 36, 24)).shape == (1, projector.tokens_out(), 32)
    assert all(p.is_meta for p in projector.parameters())


@pytest.mark.parametrize("name", ["linear", "mlp", "perceiver"])
def test_class_tokens_go_along_where_no_neighbours_are_joined(name: str) -> None:
    projector = build(name, contract(prefix=5))
    assert projector(torch.randn(1, 41, 24)).shape[1] == projector.tokens_out() == (64 if name == "perceiver" else 41)


@pytest.mark.parametrize("name", ["pixel_shuffle_linear", "pixel_shuffle_mlp", "ln_pixel_shuffle_mlp", "ldp_v2"])
def test_class_tokens_are_refused_where_neighbours_are_joined(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}' joins neighbours .* keeps 1 class .* set prefix_tokens: drop"):
        build(name, contract(prefix=1))
    with pytest.raises(UserError, match=r"set prefix_tokens: drop"):
        build("mlp_avg_pool", contract(prefix=1))


@pytest.mark.parametrize("name", ["pixel_shuffle_linear", "pixel_shuffle_mlp", "ln_pixel_shuffle_mlp"])
def test_a_grid_that_the_factor_does_not_divide_is_told_with_what_fits(name: str) -> None:
    with pytest.raises(
        UserError,
        match=r"factor 2 does not fit: an image of 384 x 384 pixels gives a grid of 27 x 27 tokens, which 2 does not divide; "
        r"set factor to 3 or 9 or 27, or image_size to 364 or 392 \(cells of 14 pixels\)",
    ):
        build(name, contract((27, 27), size=384))
    with pytest.raises(UserError, match=r"grid of 7 x 7 .*; set factor to 7, or image_size to 96 or 128 "):
        build(name, contract((7, 7)))
    with pytest.raises(UserError, match=r"grid of 4 x 5 tokens, which 2 does not divide; set factor to 1$"):
        build(name, contract((4, 5)))
    with pytest.raises(UserError, match=r"option factor .* is 0, expected 1 or more"):
        build(name, contract(), factor=0)


def test_grids_need_not_be_square_but_most_native_classes_do() -> None:
    wide = contract((4, 6))
    features = torch.randn(2, 24, 24)
    for name, tokens, native in [
        ("linear", 24, ("llava",)),
        ("pixel_shuffle_linear", 6, ()),
        ("ln_pixel_shuffle_mlp", 6, ("lfm2_vl",)),
        ("mlp_avg_pool", 6, ()),
        ("ldp_v2", 6, ()),
    ]:
        projector = build(name, wide)
        assert projector.native_classes == native
        assert projector(features).shape[1] == projector.tokens_out() == tokens


def test_pooling_rounds_down_and_leaves_something() -> None:
    assert build("mlp_avg_pool", contract((7, 7))).tokens_out() == 9
    with pytest.raises(UserError, match=r"ratio 7 leaves no token: .* grid of 6 x 6 tokens; set ratio to 6 or less"):
        build("ldp_v2", contract(), ratio=7)


@pytest.mark.parametrize("name", ["mlp2", "MLP", "ml", "lin", "pixel_shuffle"])
def test_only_exact_names_are_known(name: str) -> None:
    with pytest.raises(UserError, match=rf"unknown projector '{name}'.*(mlp|linear)"):
        build(name, contract())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"factor": 2}, r"projector 'mlp' has no option 'factor': it has none"),
        ("pixel_shuffle_linear", {"factr": 2}, r"no option 'factr': it has factor; did you mean 'factor'\?"),
        ("pixel_shuffle_linear", {"factor": 2.5}, r"option factor of .* is 2\.5, expected a whole number such as 2"),
        ("pixel_shuffle_linear", {"factor": True}, r"is True, expected a whole number"),
        ("pixel_shuffle_mlp", {"layernorm": 1}, r"option layernorm .* is 1, expected true or false such as false"),
        ("pixel_shuffle_mlp", {"width": 1.5}, r"option width .* is 1\.5, expected a whole number$"),
        ("pixel_shuffle_mlp", {"width": 0}, r"option width .* is 0, expected 1 or more"),
        ("perceiver", {"latents": 0}, r"option latents of projector 'perceiver' is 0, expected 1 or more"),
        ("perceiver", {"heads": 6, "kv_heads": 4}, r"kv_heads 4 does not divide heads 6; expected a divisor such as 3"),
    ],
)
def test_options_are_checked(name: str, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, contract(), **options)
