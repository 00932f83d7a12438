"""The command line as a user meets it: real processes, exit codes, what is printed, what is left on the disk."""

import json
import os

from ai_edge_litert import schema_py_generated as schema
import flatbuffers
import numpy as np
import pytest

VERBS = ["convert", "inspect", "analyze", "verify", "evaluate", "run", "benchmark", "expand", "delegate"]


def random_bytes() -> bytes:
    return np.random.default_rng(3).bytes(5000)


@pytest.fixture
def x_file(tmp_path, rng) -> str:
    path = tmp_path / "x.npy"
    np.save(path, rng.standard_normal((1, 8, 8, 4)).astype(np.float32))
    return str(path)


# ---- good use

@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli, verb):
    done = cli(verb, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_convert_inspect_expand_verify(cli, float_model, tmp_path):
    smart, plain = tmp_path / "smart.tflite", tmp_path / "plain.tflite"
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"global_config": {"relative_error": 0.03}}))
    converted = cli("convert", float_model, "-o", smart, "--recipe", recipe, "--json")
    assert converted.returncode == 0, converted.stderr
    report = json.loads(converted.stdout)
    assert report["file_bytes_after"] == smart.stat().st_size
    assert report["file_bytes_before"] == os.path.getsize(float_model)
    # 3 % rms error of Gaussian weights is 5.06 + 0.25 bits, so the 43,264 weights of 173 kB become about 29 kB, plus tables.
    assert 5 < report["file_bytes_before"] / report["file_bytes_after"] < 6.5
    assert report["totals"]["num_packed"] == 2
    assert 0 < report["zipped_bytes_after"] < report["zipped_bytes_before"]

    tensors = {t["tensor"]: t for t in json.loads(cli("inspect", smart, "--json").stdout)["tensors"]}
    assert all(0 < t["stored_energy_uj"] < t["plain_energy_uj"] for t in tensors.values() if t["codec"])
    assert tensors["conv/filter"]["op"] == "TFLiteSmart.Conv2D"
    assert tensors["dense/matrix"]["op"] == "TFLiteSmart.FullyConnected"
    assert tensors["dense/matrix"]["plain_bytes"] == 4 * 10 * 4096
    assert 4.5 < tensors["dense/matrix"]["bits_per_weight"] < 6

    assert cli("expand", smart, "-o", plain).returncode == 0
    assert plain.stat().st_size > 0.9 * os.path.getsize(float_model)
    # The same weights by other kernels: sums of 4096 products, float rounding only.
    same = cli("verify", plain, smart, "--tolerance", 1e-5, "--json")
    assert same.returncode == 0, same.stdout
    first = json.loads(cli("inspect", plain, "--json").stdout)["tensors"][0]
    assert (first["codec"], first["note"]) == (None, "can be compressed")


def test_convert_names_its_output_and_prints_a_table(cli, make_model):
    model = make_model("net.tflite")
    done = cli("convert", model)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(model.replace("net.tflite", "net.smart.tflite"))
    assert "times smaller" in done.stdout and "zipped download" in done.stdout
    assert "Traceback" not in done.stderr and "\r" not in done.stderr, "no progress bar where there is no terminal"


def test_same_model_same_bytes(cli, float_model, tmp_path):
    for name in ("a", "b"):
        assert cli("convert", float_model, "-o", tmp_path / name).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_run_writes_npy_and_npz(cli, smart_model, x_file, tmp_path):
    for name in ("y.npy", "y.npz"):
        done = cli("run", smart_model, "--input", x_file, "--output", tmp_path / name, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outputs"] == [{"output": "scores", "shape": [1, 10], "dtype": "float32"}]
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, np.load(tmp_path / "y.npz")["scores"])
    assert y.shape == (1, 10) and np.isfinite(y).all() and y.std() > 0


def test_evaluate_counts(cli, float_model, tmp_path, rng):
    from tflite_smart.runner import Runner

    x = rng.standard_normal((40, 8, 8, 4)).astype(np.float32)
    runner = Runner(float_model)
    scores = np.concatenate([runner({"x": image[None]})["scores"] for image in x])
    order = np.argsort(-scores, axis=1)
    # 20 labels are the best class, 10 the fifth best, 10 the worst.
    y = np.concatenate([order[:20, 0], order[20:30, 4], order[30:, 9]])
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = cli("evaluate", float_model, "--data", tmp_path / "data.npz", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["top1"], result["top5"], result["num_samples"]) == (0.5, 0.75, 40)


def test_delegate_prints_the_path(cli):
    path = cli("delegate").stdout.strip()
    assert os.path.isfile(path) and json.loads(cli("delegate", "--json").stdout)["library"] == path


def test_convert_to_a_size_reports_the_search(cli, float_model, tmp_path):
    smart = tmp_path / "smart.tflite"
    done = cli("convert", float_model, "-o", smart, "--target-size", "25kB", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["targets"] == {"target_size_bytes": 25000} and 24000 <= report["file_bytes_after"] == smart.stat().st_size <= 25000
    assert len(report["trials"]) > 2 and {"error_budget", "file_bytes", "bits_per_weight", "output_snr_db", "top1"} == set(report["trials"][0])
    table = cli("convert", float_model, "-o", smart, "--overwrite", "--target-bits", "4").stdout
    assert "search for target_bits_per_weight=4" in table and "chosen" in table


def test_convert_to_a_drop_of_accuracy(cli, float_model, tmp_path, rng):
    x = rng.standard_normal((40, 8, 8, 4)).astype(np.float32)
    np.savez(tmp_path / "xy.npz", x=x, y=np.zeros(40, int))
    done = cli("convert", float_model, "-o", tmp_path / "smart.tflite", "--max-drop", "5", "--data", tmp_path / "xy.npz", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    chosen = [trial for trial in report["trials"] if trial["error_budget"] == report["error_budget"]]
    assert len(chosen) == 1 and chosen[0]["top1"] >= report["float_top1"] - 0.05


def test_analyze(cli, float_model):
    done = cli("analyze", float_model, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {layer["name"] for layer in result["layers"]} == {"conv/filter", "dense/matrix"}
    assert [layer["sensitivity_db"] for layer in result["layers"]] == sorted((layer["sensitivity_db"] for layer in result["layers"]), reverse=True)
    sizes, snrs = zip(*((point["file_bytes"], point["output_snr_db"]) for point in result["curve"]))
    assert list(sizes) == sorted(sizes) and snrs[-1] > snrs[0] + 15
    assert "sensitivity" in cli("analyze", float_model).stdout


# ---- bad use: argparse answers with 2, too

@pytest.mark.parametrize("arguments", [[], ["compress"], ["convert"], ["verify", "a.tflite"], ["benchmark", "m", "--num-runs", "0"],
                                       ["verify", "a", "b", "--tolerance", "-1"], ["convert", "m", "--target-size", "2 apples"],
                                       ["convert", "m", "--target-size", "2MB", "--target-bits", "3"], ["convert", "m", "--target-size", "9" * 400],
                                       ["benchmark", "m", "--num-threads", "two"], ["verify", "a", "b", "--num-threads", "9" * 20]])
def test_bad_use(cli, arguments):
    done = cli(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr and "Traceback" not in done.stderr


# ---- bad input

@pytest.mark.parametrize("verb", [["convert"], ["inspect"], ["report", "-o", "{folder}/r.html"], ["run", "--input", "{x}", "--output", "{folder}/y.npy"], ["benchmark"],
                                  ["expand", "-o", "{folder}/plain.tflite"], ["evaluate", "--data", "{x}"]], ids=lambda v: v[0])
@pytest.mark.parametrize("kind", ["truncated", "random", "empty", "missing"])
def test_bad_models(refused, float_model, tmp_path, x_file, verb, kind):
    content = {"truncated": open(float_model, "rb").read()[:60_000], "random": random_bytes(), "empty": b""}
    model = tmp_path / f"{kind}.tflite"
    if kind in content:
        model.write_bytes(content[kind])
    np.savez(tmp_path / "xy.npz", x=np.zeros((1, 8, 8, 4), np.float32), y=np.zeros(1, int))
    data = str(tmp_path / "xy.npz") if verb[0] == "evaluate" else x_file
    before = sorted(os.listdir(tmp_path))
    message = refused(verb[0], model, *[word.format(x=data, folder=tmp_path) for word in verb[1:]])
    assert f"{kind}.tflite" in message
    assert sorted(os.listdir(tmp_path)) == before, "something was left behind"


def test_verify_bad_model(refused, float_model, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(random_bytes())
    assert "bad.tflite" in refused("verify", float_model, tmp_path / "bad.tflite")


def test_existing_output_is_kept(cli, refused, float_model, smart_model, x_file, tmp_path):
    output = tmp_path / "kept"
    output.write_bytes(b"precious")
    commands = [["convert", float_model, "-o", output], ["expand", smart_model, "-o", output], ["run", float_model, "--input", x_file, "--output", output]]
    for command in commands:
        assert "--overwrite" in refused(*command)
        assert output.read_bytes() == b"precious"
    for command in commands:
        assert cli(*command, "--overwrite").returncode == 0
        assert output.read_bytes() != b"precious"


def test_a_place_that_is_no_folder_is_refused_before_the_library_is_built(refused, float_model):
    assert "exists" in refused("delegate", "--target", "linux-x86_64", "-o", float_model)


def test_output_must_have_a_name(refused, smart_model):
    assert "name" in refused("expand", smart_model, "-o", "")


def test_models_without_a_graph_or_outputs(refused, float_model, x_file, tmp_path):
    """LiteRT opens both: the first kills its process, of the second there is nothing to print."""
    def without(field):
        tree = schema.ModelT.InitFromPackedBuf(bytearray(open(float_model, "rb").read()))
        setattr(tree if field == "subgraphs" else tree.subgraphs[0], field, None)
        builder = flatbuffers.Builder(1024)
        builder.Finish(tree.Pack(builder), b"TFL3")
        (tmp_path / "m.tflite").write_bytes(builder.Output())
        return tmp_path / "m.tflite"

    for field in ("subgraphs", "outputs"):
        assert field in refused("run", without(field), "--input", x_file, "--output", tmp_path / "y.npy")


def test_output_folder_must_exist(refused, float_model, tmp_path):
    assert "folder" in refused("convert", float_model, "-o", tmp_path / "no" / "where.tflite")


@pytest.mark.parametrize("recipe, expected", [
    ({"golbal_config": {}}, "golbal_config"),
    ({"global_config": {"relative_eror": 0.1}}, "relative_eror"),
    ({"global_config": {"relative_error": 7}}, "relative_error"),
    ({"op_name_configs": {"layer_that_is_not_there": None}}, "layer_that_is_not_there"),
    ({"op_name_configs": {"(": None}}, "regular expression"),
    ([1, 2], "object"),
    (None, "JSON"),
], ids=["unknown key", "unknown inner key", "out of range", "matches nothing", "bad regex", "not an object", "a thousand brackets"])
def test_bad_recipes(refused, float_model, tmp_path, recipe, expected):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe) if recipe else "[" * 100_000)
    assert expected in refused("convert", float_model, "-o", tmp_path / "out.tflite", "--recipe", path)
    assert not (tmp_path / "out.tflite").exists()


def test_targets_out_of_reach(refused, float_model, tmp_path):
    out = tmp_path / "out.tflite"
    assert "target_size_bytes must be at least" in refused("convert", float_model, "-o", out, "--target-size", "1kB")
    assert "--data" in refused("convert", float_model, "-o", out, "--max-drop", "0.5")
    assert not out.exists()


def test_unknown_recipe_lists_the_known_ones(refused, float_model, tmp_path):
    assert "lossless_accuracy" in refused("convert", float_model, "-o", tmp_path / "out.tflite", "--recipe", "tiniest")


def test_smart_model_is_not_compressed_twice(refused, smart_model, tmp_path):
    assert "expand" in refused("convert", smart_model, "-o", tmp_path / "out.tflite")


def test_plain_model_is_not_expanded(refused, float_model, tmp_path):
    assert "plain" in refused("expand", float_model, "-o", tmp_path / "out.tflite")


def test_missing_delegate_is_named(cli, smart_model, x_file, tmp_path):
    done = cli("run", smart_model, "--input", x_file, "--output", tmp_path / "y.npy",
               env={**os.environ, "TFLITE_SMART_LIBRARY": str(tmp_path / "nothing.so")})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "nothing.so" in done.stderr and not (tmp_path / "y.npy").exists()


def test_op_of_somebody_else_is_named(refused, make_model, x_file, tmp_path):
    model = make_model(custom_op="SomebodysOp")
    assert "SomebodysOp" in refused("run", model, "--input", x_file, "--output", tmp_path / "y.npy")
    assert "SomebodysOp" in refused("benchmark", model, "--rounds", 1)


def test_corrupted_packed_weight_is_named(refused, smart_model, x_file, tmp_path):
    data = bytearray(open(smart_model, "rb").read())
    payload = data.find(b"TFSW") + 3000  # inside the first or second packed weight's tiles
    data[payload] ^= 1
    model = tmp_path / "corrupted.tflite"
    model.write_bytes(data)
    assert "corrupted.tflite" in refused("run", model, "--input", x_file, "--output", tmp_path / "y.npy")
    refused("expand", model, "-o", tmp_path / "plain.tflite")
    refused("inspect", model)


# ---- bad data

@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (8, 8, 4), (1, 9, 8, 4)])
def test_shape_of_the_input_is_checked(refused, float_model, tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    assert "shape" in refused("run", float_model, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")


def test_data_files_are_checked(refused, float_model, tmp_path):
    evaluate = ["evaluate", float_model, "--data"]
    assert "no such file" in refused(*evaluate, tmp_path / "none.npz")
    (tmp_path / "noise.npz").write_bytes(random_bytes())
    assert "noise.npz" in refused(*evaluate, tmp_path / "noise.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), y=[0])
    assert "objects.npz" in refused(*evaluate, tmp_path / "objects.npz")
    np.savez(tmp_path / "only_x.npz", x=np.zeros(3))
    assert "keys x" in refused(*evaluate, tmp_path / "only_x.npz")
    np.savez(tmp_path / "label.npz", x=np.zeros((2, 8, 8, 4)), y=[0, 10])
    assert "[0, 10)" in refused(*evaluate, tmp_path / "label.npz")
    for name, array in (("one_number", np.float32(3)), ("texts", np.full((1, 8, 8, 4), "a"))):
        np.save(tmp_path / f"{name}.npy", array)
        for command in (["verify", float_model, float_model, "--inputs"], ["convert", float_model, "-o", tmp_path / "o", "--calibration-data"]):
            assert "must" in refused(*command, tmp_path / f"{name}.npy")
    np.savez(tmp_path / "names.npz", a=np.zeros((2, 8, 8, 4)), b=np.zeros(2))
    assert "['x']" in refused("verify", float_model, float_model, "--inputs", tmp_path / "names.npz")
