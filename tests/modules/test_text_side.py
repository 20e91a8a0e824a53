"""Class embeddings that train: the matrix itself, the text tower, a learned context."""

import pytest
import torch

from modules.build import build_model, build_text
from modules.checkpoint_layout import load_video_weights
from modules.losses.loss import Loss
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.errors import UserError
from utils.schema import Config

LABELS = torch.tensor([2, 0])
KINDS = {
    "matrix": {"train_classifier": True},
    "text": {"fix_text": False},
    "context": {"context_tokens": 4},
    "context_and_text": {"context_tokens": 4, "fix_text": False},
    "context_per_class": {"context_tokens": 3, "context_per_class": True, "context_position": "middle"},
}


def built(cfg, names=NAMES):
    clip_model = clip_of(cfg)
    return build_model(cfg, clip_model, names, build_text(cfg, clip_model, names)).eval()


def step(model, kind="CE"):
    """One backward pass of a training step."""
    model.train()
    loss = Loss.named(kind)(Config(), world_size=1)(
        model, {"frames": make_clips(), "label": LABELS, "weight": torch.ones(2)}
    )
    loss.backward()
    return loss.detach()


def test_a_frozen_text_tower_is_not_part_of_the_model(tmp_path):
    for changes in ({}, {"solver_loss_type": "NCE"}, {"classifier": "random"}):
        model = built(make_config(tmp_path, **changes))
        assert model.classifier is None and model.text is None


@pytest.mark.parametrize("changes", [{"train_classifier": True}, {"fix_text": False}])
def test_training_starts_from_the_frozen_embeddings(tmp_path, changes):
    cfg = make_config(tmp_path, **changes)
    text = build_text(cfg, clip_of(cfg), NAMES)
    model = built(cfg)
    with torch.no_grad():
        torch.testing.assert_close(model.class_embeddings(), text, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.class_embeddings(LABELS), text[LABELS], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(make_clips()), model(make_clips(), text), rtol=1e-4, atol=1e-4)


def test_a_trained_matrix_starts_from_any_classifier(tmp_path):
    model = built(make_config(tmp_path, train_classifier=True, classifier="random"))
    assert model.classifier.weight.requires_grad and model.text is None
    assert {n for n in model.state_dict() if n.startswith("classifier.")} == {"classifier.weight"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["CE", "NCE", "DS"])
def test_gradients_reach_only_trained_parameters(tmp_path, kind, loss):
    if kind == "matrix" and loss != "CE":
        return
    model = built(make_config(tmp_path, **KINDS[kind], solver_loss_type=loss))
    assert step(model, loss).isfinite()
    with_gradient = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    expected = {"visual", "fusion_model", "logit_scale"}
    if kind != "text":
        expected.add("classifier")
    if kind in ("text", "context_and_text"):
        expected.add("text")
    assert with_gradient == expected
    for name, parameter in model.named_parameters():  # all trainable ones are used: DDP waits for each
        assert parameter.requires_grad == (parameter.grad is not None), name
    rates = {model.is_pretrained(n) for n, _ in model.named_parameters() if n.split(".")[0] in ("text", "classifier")}
    assert rates == {False}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_changes_the_class_embeddings_and_a_checkpoint_restores_them(tmp_path, kind):
    cfg = make_config(tmp_path, **KINDS[kind])
    model = built(cfg)
    before = model.class_embeddings().detach().clone()
    step(model)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5).step()
    after = model.eval().class_embeddings().detach()
    assert not torch.allclose(after, before, atol=1e-4)
    fresh = built(cfg)
    load_video_weights(fresh, {"model_state_dict": model.state_dict()}, "w.pt")
    torch.testing.assert_close(fresh.class_embeddings().detach(), after)


def test_other_classes_start_from_scratch(tmp_path, caplog):
    old, new = (make_config(tmp_path, train_classifier=True, data_num_classes=k) for k in (3, 2))
    trained, fresh = built(old), built(new, NAMES[:2])
    before = fresh.classifier.weight.detach().clone()
    raw = {"model_state_dict": trained.state_dict()}
    with pytest.raises(UserError, match="are for 3 classes, data.label_list has 2"):
        load_video_weights(fresh, raw, "w.pt")
    load_video_weights(fresh, raw, "w.pt", new_classes=True)
    assert torch.equal(fresh.classifier.weight, before) and "the parameters of its classes" in caplog.text


@pytest.mark.parametrize(
    ("trained", "tested", "remedy"),
    [
        ({"context_tokens": 4}, {}, "set network.context_tokens=4"),
        ({}, {"context_tokens": 4}, "set network.context_tokens=0"),
        ({"context_tokens": 4}, {"context_tokens": 3}, "set network.context_tokens=4"),
        ({"context_tokens": 4, "context_per_class": True}, {"context_tokens": 4}, "set network.context_per_class=true"),
        ({"train_classifier": True}, {}, "set network.train_classifier=true"),
        ({}, {"train_classifier": True}, "set network.train_classifier=false"),
        ({"train_classifier": True, "data_num_classes": 3}, {"train_classifier": True, "data_num_classes": 2}, "3 cl"),
    ],
)
def test_a_text_side_trained_with_other_settings_names_the_key(tmp_path, trained, tested, remedy):
    model = built(make_config(tmp_path, **trained))
    other = built(make_config(tmp_path, **tested), NAMES[: tested.get("data_num_classes", 3)])
    with pytest.raises(UserError, match=f"^w.pt: .*{remedy}"):
        load_video_weights(other, {"model_state_dict": model.state_dict()}, "w.pt")


def test_a_shared_context_works_with_other_classes(tmp_path):
    """Zero-shot with a learned context: other names, the same vectors."""
    cfg = make_config(tmp_path, context_tokens=4)
    trained, other = built(cfg), built(cfg, ["diving", "a much longer name of a class"])
    with torch.no_grad():
        trained.classifier.context += 1
    load_video_weights(other, {"model_state_dict": trained.state_dict()}, "w.pt")
    assert torch.equal(other.classifier.context, trained.classifier.context)
    assert other.class_embeddings().shape == (2, 32)


@pytest.mark.parametrize(
    ("position", "sentence"),
    [
        ("end", "a video of people {}."),
        ("front", "{} a video of people."),
        ("middle", "a video {} of people."),
    ],
)
def test_a_context_initialised_from_words_equals_those_words(tmp_path, position, sentence):
    """The context's vectors in the text are the words' own, wherever the name is: then the text is the sentence."""
    cfg = make_config(tmp_path, context_tokens=4, context_init="a video of people", context_position=position)
    clip_model = clip_of(cfg)
    model = build_model(cfg, clip_model, NAMES)
    with torch.no_grad():
        expected = clip_model.text(clip_model.tokenize([sentence.format(name) for name in NAMES]))
        torch.testing.assert_close(model.class_embeddings(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.class_embeddings(LABELS), expected[LABELS], rtol=1e-4, atol=1e-5)
    assert len(clip_model.text.token_embedding._forward_hooks) == 0


def test_underscores_in_a_name_after_a_context_are_spaces(tmp_path):
    """As in the code of CoOp and ViFi-CLIP."""
    cfg = make_config(tmp_path, context_tokens=2, context_init="video of")
    tokens = [built(cfg, [name]).classifier.tokens for name in ("ride_a_bike", "ride a bike")]
    assert torch.equal(*tokens)


def test_contexts_of_the_classes_are_their_own(tmp_path):
    model = built(make_config(tmp_path, context_tokens=2, context_per_class=True))
    assert model.classifier.context.shape == (3, 2, 64)
    before = model.class_embeddings().detach()
    with torch.no_grad():
        model.classifier.context[1] += torch.randn(2, 64)
    changed = (model.class_embeddings() - before).abs().amax(1) > 1e-5
    assert changed.tolist() == [False, True, False]


def test_random_contexts_are_small(tmp_path):
    context = built(make_config(tmp_path, context_tokens=64)).classifier.context
    assert context.shape == (64, 64) and abs(context.std().item() - 0.02) < 0.002


@pytest.mark.parametrize(
    ("changes", "names", "part"),
    [
        ({"context_tokens": 3, "context_init": "a video of people"}, NAMES, "has 4 tokens; set context_tokens to 4"),
        ({"context_tokens": 64}, ["word " * 11], "the class 'word word"),
    ],
)
def test_contexts_that_do_not_fit(tmp_path, changes, names, part):
    cfg = make_config(tmp_path, **changes)
    with pytest.raises(UserError, match=part):
        build_model(cfg, clip_of(cfg), names)


def test_text_towers_that_do_not_support_a_context(tmp_path):
    cfg = make_config(tmp_path, context_tokens=2)
    clip_model = clip_of(cfg)
    clip_model.text = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="this text tower does not support a learned context"):
        build_model(cfg, clip_model, NAMES)
    clip_model = clip_of(cfg)
    clip_model._tokenizer = lambda texts: torch.arange(77).repeat(len(texts), 1)
    with pytest.raises(UserError, match="does not support a learned context|does not fit into"):
        build_model(cfg, clip_model, NAMES)


def test_a_frozen_text_tower_in_the_model_stays_in_eval_mode(tmp_path):
    model = built(make_config(tmp_path, context_tokens=2)).train()
    assert not model.text.training and not any(p.requires_grad for p in model.text.parameters())
    assert built(make_config(tmp_path, fix_text=False)).train().text.training


def test_head_layers(tmp_path):
    model = built(make_config(tmp_path, head_layers=2))
    assert len(model.fusion_model.transformer.resblocks) == 2


def test_recomputed_activations_give_the_same_gradients(tmp_path):
    gradients = []
    for checkpointing in (False, True):
        cfg = make_config(tmp_path, context_tokens=4, fix_text=False, solver_activation_checkpointing=checkpointing)
        model = built(cfg)
        with torch.no_grad():
            torch.nn.init.constant_(model.classifier.context, 0.01)
        step(model)
        assert model.text.transformer.grad_checkpointing is checkpointing
        gradients.append(model.classifier.context.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(tmp_path, kind):
    model = built(make_config(tmp_path, **KINDS[kind]))
    with torch.no_grad():
        whole = model(make_clips())
        with torch.autocast("cpu", torch.bfloat16):
            half = model(make_clips())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.1, atol=0.3)
