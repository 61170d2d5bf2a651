"""The card of a cache: what it says, that its five lines load a column, and that a person's page is left alone."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import melcache
from cache import manifests
from cache.cli import app
from cache.sharing import card, push

SHA = "ab" * 32


def changed(toy_cache, change):
    found = manifests.load(toy_cache).as_json()
    change(found)
    return manifests.Manifest.of(manifests.seal(found))


def test_the_five_lines_of_the_card_load_a_column_with_h5py_alone(toy_cache):
    page = card.page(manifests.load(toy_cache))
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) == 5
    check = (
        "import sys; assert not [name for name in sys.modules if name.startswith('cache')]; print(sentence.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + check], cwd=toy_cache, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    shape, values = done.stdout.splitlines()
    assert shape == "(40, 8) float16"
    assert json.loads(values) == melcache.open(toy_cache).column("entity.text.sentence").tolist()


def test_the_card_says_what_is_in_the_cache_and_what_to_mind(toy_cache):
    found = manifests.load(toy_cache)
    page = card.page(found)
    for said in (
        "60 mentions (test 6, train 48, valid 6), 40 entities and 5 candidates",
        found.id,
        "warning: synthetic data",
        "Licence: CC0-1.0 (generated)",
        "| mention.text | span | 60 x 8 | f2 | mean of the tokens under the mention",
        "| mentions | 60 |",
        "No part was made by an encoder",
    ):
        assert said in page
    assert "guesses about people" not in page


def test_the_card_names_encoders_licences_and_guesses_about_people(toy_cache):
    def change(found):
        recipes = {
            "entity.text": {"encoder": "transformers BertModel", "weights": SHA},
            "entity.image": {"encoder": "torchvision resnet152", "weights": "random-tiny 1.0"},
            "entity.joint": {"encoder": "open_clip SigLIP", "weights": SHA},
            "entity.objects": {"encoder": "torchvision fasterrcnn_resnet50_fpn_v2", "weights": SHA},
            "mention.text": {"encoder": "AutoModel BertModel", "weights": SHA},
            "mention.image": {"encoder": "somebody's <b>own</b>", "weights": SHA},
        }
        for part, recipe in recipes.items():
            entry = found["parts"].setdefault(part, {**found["parts"]["mention.text"], "columns": {}})
            entry["recipe"] = {"encoder": recipe}
        found["parts"]["mention.attributes"] = found["parts"]["mention.text"]
        found["parts"]["mention.attributes"]["columns"] = {}

    page = card.page(changed(toy_cache, change))
    assert (
        f"| entity.text | BERT, bert-base-cased | Apache-2.0 | https://github.com/google-research/bert | {SHA[:16]} |"
        in page
    )
    assert "| entity.image | torchvision resnet152, untrained | - |" in page
    unknown = "not known to melcache: see where the model was published"
    assert f"| mention.image | somebody's &lt;b&gt;own&lt;/b&gt; | {unknown} | - | {SHA[:16]} |" in page
    assert f"| entity.joint | open_clip SigLIP | {unknown} |" in page  # not OpenAI's
    assert f"| mention.text | AutoModel BertModel | {unknown} | - | {SHA[:16]} |" in page
    assert "| entity.objects | Faster R-CNN ResNet-50 FPN, COCO weights | BSD-3-Clause" in page
    assert "guesses about people" in page and "gender, race, age and emotion" in page


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"text": "BAAI/bge@" + "1" * 40}, f"AutoModel BertModel: BAAI/bge@{'1' * 40} | not known to melcache: see"),
        ({"text": "BAAI/bge | <b>@" + "1" * 40}, "AutoModel BertModel | not known"),
        ({"text": 3}, "AutoModel BertModel | not known"),
        ("text", "AutoModel BertModel | not known"),
    ],
)
def test_the_card_says_where_a_named_encoder_is_from_if_that_is_noted(toy_cache, noted, said):
    def change(found):
        found["parts"]["entity.text"]["recipe"]["encoder"] = {"encoder": "AutoModel BertModel", "weights": SHA}
        found["provenance"]["encoders"] = noted

    page = card.page(changed(toy_cache, change))
    assert f"| entity.text | {said}" in page and ("https://huggingface.co/BAAI/bge |" in page) == (": BAAI" in said)


def test_a_strangers_texts_are_no_markdown(toy_cache):
    page = card.page(changed(toy_cache, lambda found: found["dataset"].update(source="<script>a</script> [b](c) | d")))
    assert "<script>" not in page and r"\[b\](c) \| d" in page


def test_the_front_matter_is_what_the_hub_reads(toy_cache):
    yaml = pytest.importorskip("yaml")
    for licence, wanted in (("CC BY-SA 4.0", "cc-by-sa-4.0"), ('text "MIT", pictures: per file', "other")):
        found = changed(toy_cache, lambda found, licence=licence: found["dataset"].update(licence=licence))
        head = card.front_matter(found)
        read = yaml.safe_load(head.strip().strip("-"))
        assert read["license"] == wanted and read.get("license_details", licence) == licence
        assert read["pretty_name"] == "toy, melcache features" and "melcache" in read["tags"]
        assert card.page(found, head).startswith("---\n") and card.ours(card.page(found, head).encode())


def test_a_page_that_a_person_changed_is_left_alone_and_ours_is_renewed(toy_cache, tmp_path):
    page = card.page(manifests.load(toy_cache))
    assert card.ours(page.encode())
    for other in (page.replace("60 mentions", "61 mentions"), page + "x", page[1:], "# mine\n", "", "\xff"):
        assert not card.ours(other.encode("latin-1"))

    remote = tmp_path / "team"
    push.push(toy_cache, str(remote))
    assert (remote / "README.md").read_text() == page
    (remote / "README.md").write_text(page.replace(manifests.load(toy_cache).id, "0" * 64))
    assert push.push(toy_cache, str(remote)).news == ()  # edited
    old = card.page(changed(toy_cache, lambda found: found["warnings"].append("an older one")))
    (remote / "README.md").write_text(old)
    assert push.push(toy_cache, str(remote)).news == ("card",) and (remote / "README.md").read_text() == page
    (remote / "README.md").write_text("# mine\n")
    other = shutil.copytree(toy_cache, tmp_path / "other/toy")
    sealed = changed(toy_cache, lambda found: found["warnings"].append("another"))
    (other / "manifest.json").write_bytes(manifests.written(sealed.as_json()))
    assert push.push(other, str(remote), replace=True).news == ("manifest", "copy")
    assert (remote / "README.md").read_text() == "# mine\n"


def test_the_command_prints_the_card(toy_cache):
    done = CliRunner().invoke(app, ["card", str(toy_cache)])
    assert done.exit_code == 0 and done.stdout == card.page(manifests.load(toy_cache))
