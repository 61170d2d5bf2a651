"""The import rules of CONTRIBUTING: folders meet only where they may, and light paths stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)
# what each folder may import beside the standard library and itself
ALLOWED = {
    "common": {"numpy", "tqdm", "typer"},
    "cache": {"common", "numpy", "tqdm", "typer", "xxhash"},
    "workers": {"common"},
    "extract": {
        "common", "cache", "workers", "numpy", "tqdm", "typer", "torch", "torchvision", "transformers", "tokenizers",
        "open_clip", "timm", "PIL", "rapidfuzz", "huggingface_hub", "safetensors",
    },
    "train": {"common", "cache", "workers", "numpy", "tqdm", "typer", "torch", "safetensors", "optuna"},
    "link": {"common", "cache", "extract", "train", "numpy", "tqdm", "typer", "torch"},
    "serve": {
        "common", "link", "extract", "fastapi", "h11", "jinja2", "pydantic", "python_multipart", "starlette", "uvicorn",
    },
    "melcache": {"common", "cache", "extract", "link", "report.cli", "serve", "train", "numpy", "typer"},
    "report": {"common", "cache", "extract.datasets", "extract.images", "train", "numpy", "torch", "PIL", "jinja2"},
    "torture": {  # extract.images only: no encoder
        "common", "cache", "extract", "link", "serve", "workers", "numpy", "h5py", "xxhash", "PIL", "safetensors",
        "uvicorn", "train.run_folder.run_files", "train.run_folder.run_schema",
    },
}  # fmt: skip
ONLY_HERE = {
    "common/devices.py": {"torch"},
    "cache/writing/writer.py": {"h5py"},
    "cache/checks/hdf5_gate.py": {"h5py"},  # in a child process
    "extract/retrieval/faiss_index.py": {"faiss"},
    "torture/clusters/noted.py": {"train.cli", "train.loop", "train.dividing.division"},
    "torture/clusters/ray_cluster.py": {"ray"},
    "workers/ray.py": {"ray"},
    "workers/slurm.py": {"submitit"},
    "workers/slurm_job.py": {"submitit"},
    "cache/remotes/object_store.py": {"fsspec"},
    "cache/remotes/s3.py": {"fsspec", "s3fs", "botocore", "aiohttp"},
    "cache/remotes/gcs.py": {"fsspec", "gcsfs", "google", "aiohttp"},
    "cache/remotes/hub.py": {"huggingface_hub", "httpx2"},
    "train/judging/predict.py": {"pandas", "pyarrow"},
    "train/studies/plot.py": {"matplotlib"},
    "melcache/frames.py": {"pandas"},
    "melcache/torch_dataset.py": {"torch"},
}
NEVER = {
    "train/run_folder/run_files.py": {"torch"},
    "train/run_folder/run_schema.py": {"torch"},
}  # torture reads runs without it
# extraction writes caches; everything else reads them through cache.reader
PRIVATE = {"train": {"cache.writing.writer", "cache.writing.draft"}, "report": {"cache.writing"}}


def imports(source: str) -> set[str]:
    """Full names of all modules that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(path: str, source: str) -> list[str]:
    """What a file imports against the rules."""
    folder = path.split("/")[0]
    allowed = ALLOWED[folder] | {folder} | STANDARD | ONLY_HERE.get(path, set())
    names = imports(source)
    allowed -= NEVER.get(path, set())
    outside = [name for name in names if name.split(".")[0] not in allowed and name not in allowed]
    private = [name for name in names for module in PRIVATE.get(folder, ()) if f"{name}.".startswith(f"{module}.")]
    return sorted(outside + private)


def sources() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


def test_every_folder_imports_only_what_it_may():
    assert len(sources()) > 30
    assert {path: found for path in sources() if (found := violations(path, (ROOT / path).read_text()))} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("train/loop.py", "import extract.images"),
        ("train/loop.py", "def f():\n    from PIL import Image"),
        ("train/loop.py", "from link.linker import Linker"),
        ("extract/images.py", "import link"),
        ("link/records.py", "import h5py"),
        ("link/linker.py", "import fastapi"),
        ("serve/app.py", "import torch"),
        ("train/data/table.py", "import h5py"),
        ("train/studies/tables.py", "import matplotlib"),
        ("train/data/table.py", "from cache.writing import writer"),
        ("train/data/table.py", "from cache.writing.draft import Draft"),
        ("extract/computing/missing_shards.py", "from train.loop import fit"),
        ("cache/reader/__init__.py", "import torch"),
        ("cache/reader/__init__.py", "import h5py"),
        ("cache/checks/verify.py", "import h5py"),
        ("torture/tiny_cache.py", "import torch"),
        ("torture/tiny_cache.py", "import torture_tools"),
        ("torture/strangers/strange_run_folders.py", "from train import loop"),
        ("train/run_folder/run_files.py", "import torch"),
        ("cache/sharing/push.py", "import fsspec"),
        ("cache/remotes/base.py", "import s3fs"),
        ("cache/remotes/s3.py", "import huggingface_hub"),
        ("common/output.py", "import torch"),
        ("common/paths.py", "import cache"),
        ("workers/launch.py", "from extract.config import ExtractConfig"),
        ("cache/cli.py", "import melcache"),
        ("melcache/cli.py", "import torch"),
        ("report/build.py", "from extract import pipeline"),
        ("train/cli.py", "from report import build"),
    ],
)
def test_a_planted_violation_is_caught(path, source):
    assert violations(path, (ROOT / path).read_text() + "\n" + source) != []


# what would run, or unpickle, a file that a stranger may have written, and where it is allowed
RUNS = {
    "eval", "exec", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "joblib.load", "torch.hub.load",
    "torch.jit.load", "from_pretrained", "runpy.run_path", "exec_module",
}  # fmt: skip
MAY_RUN = {
    ("extract/encoders/joint/clip.py", "torch.jit.load"),  # OpenAI's own file, by its sha256
    ("common/own_file.py", "exec"),  # a head or an encoder that the user names
}


def reads_data_alone(name: str, words: list[str], given: dict[str, str]) -> bool:
    """Whether a from_pretrained is given its weights, or reads a folder's tokenizer or processor, and not its code."""
    if words == ["None"]:
        return "state_dict" in given
    refused = (given.get("trust_remote_code"), given.get("local_files_only")) == ("False", "True")
    return name in ("AutoTokenizer.from_pretrained", "AutoImageProcessor.from_pretrained") and refused


def runs(path: str, source: str) -> list[str]:
    """Calls in a file that run what they read, or leave to a default or a variable whether they do."""
    found = []
    for node in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        called = name if name in RUNS else name.rpartition(".")[2]
        if called == "from_pretrained" and reads_data_alone(name, [ast.unparse(word) for word in node.args], given):
            continue
        if called in RUNS and (path, called) not in MAY_RUN and not name.endswith(".eval"):  # of models
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") == "True":
            found.append(name)
    return found


def test_no_loader_of_weights_checkpoints_or_arrays_runs_code():
    assert {path: found for path in sources() if (found := runs(path, (ROOT / path).read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=given)",
        "torch.jit.load(path)",
        "np.load(path, allow_pickle=True)",
        "BertModel.from_pretrained(folder)",
        "BertModel.from_pretrained(folder, state_dict=state)",
        "AutoTokenizer.from_pretrained(folder)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True, local_files_only=True)",
        "eval(text)",
        "pickle.load(file)",
    ],
)
def test_a_planted_loader_that_runs_code_is_caught(source):
    assert runs("train/optimizing/checkpoint.py", source) != []


def test_console_output_of_help_needs_no_torch():
    code = (
        "import sys, contextlib\n"
        "import melcache, melcache.cli\n"
        "for words in ('', 'extract', 'train', 'train --model drin', 'compare', 'verify', 'pull', 'serve'):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        melcache.cli.app()([*words.split(), '--help'])\n"
        "heavy = {'torch', 'transformers', 'open_clip', 'timm', 'torchvision', 'h5py'} & set(sys.modules)\n"
        "heavy |= {'fastapi', 'uvicorn', 'jinja2'} & set(sys.modules)\n"
        "heavy |= {'fsspec', 's3fs', 'gcsfs', 'botocore', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "--max-missing" in done.stdout
    assert "--edge-from" in done.stdout


def test_the_trainer_runs_without_the_extract_extra():
    blocked = "torchvision transformers open_clip timm PIL rapidfuzz h5py".split()
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import train.loop, train.results, train.heads.models\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
