import re
from pathlib import Path

import msgspec
import pytest

from lottery.experiment import config
from preprocessing.common.errors import InputError
from tests.lottery.paths import DIGITS

DATASET = "0" * 64


def text():
    return Path(DIGITS).read_text()


def test_pinned_identities():
    """A change here orphans every run directory there is: mend the code, not the hash."""
    digits = config.load(DIGITS)
    assert config.identity(digits, DATASET) == "b66f275a802a"
    reset = config.load(DIGITS, ["trellis=[0ep, 1ep]", "tickets.seeds=[0, 1]", "data.flip=true"])
    assert config.identity(reset, DATASET) == "a2decba2a47a"


@pytest.mark.parametrize(
    "override",
    [
        "gang.tasks=2",
        "gang.bundle=5",
        "gang.hang_after=60",
        "gang.checkpoint=10",
        "input.cache_dir=/somewhere",
        "input.cache_bytes=1000",
        "input.read_threads=2",
        "input.threads=1",
        "input.shuffle_window=all",  # its default
        "tickets.schedule=continue",  # its default
        "tickets.start=weight_rewinding",  # its default
        "training.learning_rate.peak=3e-2",  # another way to write the same number
        "data.train=train",
        "data.evaluate=val",
        "data.select=null",
        "verdict.margin=2",
        "verdict.level=0.1",
        "data.pad=0",
        "training.label_smoothing=0.0",
        "training.learning_rate.factor=0.1",
        "training.learning_rate.milestones=[]",
        "training.optimizer.nesterov=false",
        "tickets.seeds=[0]",
        "model.options={}",
        "seed=0",
    ],
)
def test_what_cannot_change_a_result_is_not_in_the_identity(override):
    same = config.load(DIGITS, [override])
    assert config.identity(same, DATASET) == config.identity(config.load(DIGITS), DATASET)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "data.batch=16",
        "model.options.units=64",
        "training.length=11ep",
        "training.optimizer.momentum=0.8",
        "training.weight_decay=0",
        "training.weight_decay_kind=decoupled",
        "training.clip_norm=1",
        "training.precision=mixed_float16",
        "training.synchronized_batch_norm=true",
        "training.evaluate_batches=3",
        "data.select=minival",
        "training.deterministic=false",
        "trellis=[0ep, 1ep]",
        "masks.classifier=false",
        "masks.densities=[0.5]",
        "tickets.optimizer_state=rewind",
        "tickets.start=fine_tuning",
        "tickets.controls=[continue]",
        "input.shuffle_window=16",
        "data.crop_scale=[0.08, 1]",
        "data.colour=0.4",
        "data.pad=4",
    ],
)
def test_what_can_change_a_result_is_in_the_identity(override):
    other = config.load(DIGITS, [override])
    assert config.identity(other, DATASET) != config.identity(config.load(DIGITS), DATASET)


def test_the_datasets_content_is_in_the_identity():
    digits = config.load(DIGITS)
    assert config.identity(digits, DATASET) != config.identity(digits, "1" * 64)


def test_tree_round_trip():
    digits = config.load(DIGITS, ["training.optimizer={name: adamw, beta_2: 0.95}", "gang.tasks=3"])
    tree = msgspec.json.decode(msgspec.json.encode(config.to_tree(digits)))
    assert config.from_tree(tree, "a test") == digits


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lenght=3ep", ["training.lenght", "did you mean length"]),
        ("colour=red", ["unknown key colour; did you mean data.colour?", "the keys are"]),
        ("batch=3", ["unknown key batch; did you mean data.batch?"]),
        (
            "training.optimizer={name: adam, momentum: 0.9}",
            ["optimizer.momentum; the keys are beta_1, beta_2, epsilon"],
        ),
        ("training.optimizer={momentum: 0.9}", ["training.optimizer.name is missing; give sgd, adam or adamw"]),
        ("training.optimizer=adam", ["training.optimizer: give keys", "did you mean training.optimizer={name: adam}?"]),
        ("model=resnet20", ['give the keys name, options, not "resnet20"; did you mean model.name=resnet20?']),
        ("model.options={widht:8}", ['model.options: "widht:8" has no value; put a space after the colon: {widht: 8}']),
        ("model={name:resnet20}", ['model: "name:resnet20" has no value', "{name: resnet20}"]),
        ("training.optimizer={name:adam}", ['training.optimizer: "name:adam" has no value']),
        ("model.options={units: [3]}", ["model.options.units: give", "a number or text, not [3]"]),
        ("masks.densities=0.5", ["masks.densities: give a list of at least 1", "not 0.5; did you mean [0.5]?"]),
        ("masks.densities=[]", ["masks.densities: give a list of at least 1", "not []"]),
        ("data.crop_scale=[0.5]", ["data.crop_scale: give a list of 2", "not [0.5]"]),
        ("data.crop_scale=[0.5, 2]", ["data.crop_scale[1]: give a number > 0.0 and <= 1.0, not 2"]),
        ("training.precision=fp16", ['give float32, mixed_bfloat16 or mixed_float16, not "fp16"']),
        ("gang.tasks=0", ["gang.tasks: give an integer >= 1 or auto, not 0"]),
        ("data.batch=true", ["data.batch: give an integer >= 1, not true"]),
        ("data.batch=", ["data.batch: give an integer >= 1, not null"]),
        ("training.learning_rate.peek=1", ["training.learning_rate.peek", "did you mean peak"]),
        ("training.optimizer.moment=1", ["training.optimizer.moment", "momentum"]),
        ("data.batch=many", ["data.batch", "int"]),
        ("data.batch=0", ["data.batch", ">= 1"]),
        (
            "training.length=10 epochs",
            ["training.length: give an integer", 'epochs such as 2ep or 0.5ep, not "10 epochs"'],
        ),
        ("masks.densities=[0.5, 1.5]", ["masks.densities", "1.0"]),
        ("masks.densities=[0.5, 0.5]", ["masks.densities", "0.5 twice"]),
        ("training.optimizer={name: sgdd}", ["training.optimizer", "sgdd"]),
        ("tickets.start=rewind", ["tickets.start: give fine_tuning, learning_rate_rewinding or weight_rewinding, not"]),
        ("name=../up", ["name: give letters, digits", 'not "../up"']),
        ("training=3", ["training"]),
        ("training.length.x=3", ["training.length.x=3"]),
        ("nonsense", ["nonsense", "key=value"]),
        ("model.options={8: 1}", ["model.options: give keys that are text, such as {width: 8}, not 8"]),
        ("data={8: 1}", ["data: give keys that are text"]),
        ("data.batch=[1", ["data.batch", "YAML"]),
    ],
)
def test_bad_values_are_named_with_a_remedy_in_one_line(override, words):
    with pytest.raises(InputError) as error:
        config.load(DIGITS, [override])
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def leaves(kind, path=""):
    """The keys below a section with their kinds."""
    if isinstance(kind, msgspec.inspect.StructType):
        for field in kind.fields:
            yield from leaves(field.type, f"{path}.{field.encode_name}".lstrip("."))
    else:
        yield path, kind


LEAVES = dict(leaves(msgspec.inspect.type_info(config.Experiment)))
SWITCHES = [path for path, kind in LEAVES.items() if isinstance(kind, msgspec.inspect.BoolType)]
NUMBERS = [path for path, kind in LEAVES.items() if "FloatType" in repr(kind) and "Struct" not in repr(kind)]
NUMBERS = [path for path in NUMBERS if path != "model.options"]


@pytest.mark.parametrize("key", [*SWITCHES, "training.optimizer.nesterov"])
@pytest.mark.parametrize("word", ["off", "on", "yes", "no"])
def test_switches_are_true_or_false_in_yaml_1_2(key, word):
    with pytest.raises(InputError) as error:
        config.load(DIGITS, [f"{key}={word}"])
    assert f'{key}: give true or false, not "{word}"' in str(error.value)


@pytest.mark.parametrize("key", [*NUMBERS, "training.optimizer.momentum", "model.options.units"])
@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999"])
def test_numbers_have_to_be_finite(key, number):
    """What is not would be null in the JSON that children are given, and fail there."""
    assert "gang.hang_after" in NUMBERS
    listed = {
        "masks.densities": f"[{number}]",
        "data.crop_scale": f"[0.1, {number}]",
        "data.crop_aspect": f"[1, {number}]",
    }
    with pytest.raises(InputError) as error:
        config.load(DIGITS, [f"{key}={listed.get(key, number)}"])
    assert key in str(error.value)
    assert "finite" in str(error.value)


def test_every_problem_that_msgspec_finds_is_said_in_our_words():
    """A value of each wrong kind for each key: none falls through to msgspec's own message."""
    said = []
    for key in LEAVES:
        for value in ("{}", "[[]]", "null", "true", "-1", "2.5", "[{}, 1, 2]", "text text", "''"):
            try:
                config.load(DIGITS, [f"{key}={value}"])
            except InputError as error:
                said.append(str(error))
    assert len(said) > 200
    assert [
        line
        for line in said
        if not re.search(r" give .*, not | is missing; give |twice|neither is there|\[first, last\]", line)
    ] == []


@pytest.mark.parametrize(
    ("yaml", "word"),
    [("", "mapping"), ("[1, 2]", "mapping"), ("a: b: c", "YAML"), ("name: x\nname: y", "name"), ("name: x", "missing")],
)
def test_broken_yaml_is_an_error_that_names_the_file(yaml, word, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(yaml)
    with pytest.raises(InputError) as error:
        config.load(str(path))
    assert str(path) in str(error.value)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match="UTF-8"):
        config.load(str(path))


def test_adamw_with_l2_decay_is_refused():
    with pytest.raises(InputError, match=r"weight_decay_kind: l2 is not adamw's"):
        config.load(DIGITS, ["training.optimizer={name: adamw}", "training.weight_decay_kind=l2"])


@pytest.mark.parametrize("start", ["fine_tuning", "learning_rate_rewinding"])
def test_final_weights_with_a_whole_schedule_from_every_reset_point_are_refused(start):
    with pytest.raises(InputError, match=f"tickets.schedule: restart makes all reset points of {start} the same; "):
        config.load(DIGITS, [f"tickets.start={start}", "tickets.schedule=restart"])


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="nowhere.yaml"):
        config.load(str(tmp_path / "nowhere.yaml"))


def test_overrides_reach_new_sections():
    assert config.load(DIGITS, ["gang.tasks=7"]).gang.tasks == 7


def test_the_digits_experiment_is_the_seeds():
    digits = config.load(DIGITS)
    sparsities = [0.60, 0.65, 0.70, 0.75, 0.80, 0.85, *(i / 100 for i in range(86, 100))]
    assert [round(1 - sparsity, 2) for sparsity in sparsities] == list(digits.masks.densities)
    assert len(digits.trellis) == 5


@pytest.mark.parametrize(("split", "key"), [("val", "data.evaluate"), ("train", "data.train")])
def test_a_choice_on_the_split_that_judges_or_trains_is_refused(split, key):
    with pytest.raises(InputError) as caught:
        config.load(DIGITS, [f"data.select={split}"])
    assert type(caught.value) is InputError
    assert str(caught.value) == (
        f"experiment {DIGITS}: data.select: {split} is {key} too; name another split, such as minival of preprocess.py "
        "--holdout, or leave the key out"
    )


@pytest.mark.parametrize("override", ["verdict.margin=0", "verdict.level=0", "verdict.level=0.5", "verdict.alpha=0.1"])
def test_a_verdict_that_makes_no_sense_is_refused(override):
    with pytest.raises(InputError, match="verdict"):
        config.load(DIGITS, [override])
