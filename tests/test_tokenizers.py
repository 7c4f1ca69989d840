"""Tokenizers: the built-in one, CLIP's, those that people train, and files that are none."""

import gzip
import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, smooth, write_tar

from abx.cli import main
from abx.data import tokenizers
from abx.data.schemes.scenes import Scenes
from abx.data.texts import Texts
from abx.data.tokenizers.base import BadTokenizer, Tokenizer
from abx.data.tokenizers.clip import MAX_WORD, MERGES, Clip, words
from abx.data.tokenizers.sentence import Sentence, train

SCENES = tokenizers.tokenizer("scenes")
TEXTS = ["A dog on a bench.", "two dogs, one cat", "the cat sat on a mat", "a bench & a boat"] * 5

# --- the built-in one ---


def captions(count: int) -> list[str]:
    return [caption for i in range(count) for caption in Scenes("test").stored(i).captions]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory) -> Path:
    """The command that made the built-in one, as docs/text.md has it."""
    path = tmp_path_factory.mktemp("tokenizers") / "again.model"
    main(["tokenizer", "train", "scenes", "--vocab", "512", "--max-texts", "1000", "--out", str(path)])
    return path


def test_the_built_in_one_can_be_made_again(retrained):
    again = tokenizers.tokenizer(str(retrained))
    pieces = [[model.piece(i) for i in range(model.size)] for model in (again, SCENES)]
    assert pieces[0] == pieces[1]
    assert all(again.ids(text) == SCENES.ids(text) for text in captions(100))


def test_each_word_of_a_scene_is_one_token():
    """So a caption is short. Pictures of the test split: what is said of them was not learnt from."""
    for text in captions(200):
        assert len(SCENES.ids(text)) == len(text.replace(",", " ,").split()) < 32


def test_fixed_numbers():
    """METHODS A-28, and what docs/text.md says."""
    assert (SCENES.size, SCENES.start, SCENES.end) == (512, (), 1)
    assert [SCENES.piece(i) for i in (0, 1, 2, 257)] == ["<unk>", "</s>", "<0x00>", "<0xFF>"]


# --- training ---


def test_training_has_no_chance_in_it():
    assert train(TEXTS, 300) == train(iter(TEXTS), 300) != train(TEXTS, 301)


def test_a_trained_model_spells_frequent_words_whole():
    model = Sentence(train(TEXTS, 300))
    assert model.size == 300
    assert [model.piece(i) for i in model.ids("The BENCH")] == ["▁the", "▁bench"]
    assert model.text(model.ids("  The   BENCH")) == "the bench"


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (5000, r"^the texts are too few or too alike for 5000 tokens: they make at most (\d+)$"),
        (260, r"^260 tokens are too few: the bytes and the characters of these texts alone are (\d+)$"),
    ],
)
def test_a_size_that_does_not_suit_the_texts_is_refused_with_one_that_does(size, said):
    with pytest.raises(BadTokenizer, match=said) as wrong:
        train(TEXTS, size)
    bound = int(str(wrong.value).split()[-1])
    assert Sentence(train(TEXTS, bound)).size == bound
    with pytest.raises(BadTokenizer):
        train(TEXTS, bound + (1 if bound < size else -1))


def test_long_and_broken_texts_are_learnt_from():
    model = Sentence(train(["zebra " * 2000, "\ud800zebra\n\0zebra"] * 2, 275))
    assert [model.piece(i) for i in model.ids("zebra")] == ["▁zebra"]


# --- CLIP's ---


@cache
def made_up(*merges: str) -> Clip:
    """Of the right form, with these merges first and others that apply to nothing."""
    filling = [f"{i}ǃ ǃ{i}" for i in range(MERGES - len(merges))]
    return Clip("\n".join(["#version", *merges, *filling, "more ǃ"]))


def published() -> str:
    found = find_spec("open_clip")
    path = Path(str(found.origin)).with_name("bpe_simple_vocab_16e6.txt.gz") if found else None
    if path is None or not path.exists():
        pytest.skip("CLIP's vocabulary comes with open_clip_torch, which is not installed")
    return str(path)


def test_pairs_are_merged_in_the_order_of_the_file():
    clip = made_up("a b", "b c</w>", "ab c</w>", "a a")
    said = {word: [clip.piece(i) for i in clip.ids(word)] for word in ("abc", "bc", "aaa", "abab", "cab")}
    assert said == {
        "abc": ["abc</w>"],
        "bc": ["bc</w>"],
        "aaa": ["aa", "a</w>"],
        "abab": ["ab", "a", "b</w>"],
        "cab": ["c", "a", "b</w>"],
    }
    assert clip.ids("abc") == [512 + 2]
    assert clip.ids("a!") == [256 + ord("a") - 33, 256]
    assert clip.ids("é") == clip.ids("e\u0301") == [127, 256 + 102]  # two bytes, 195 and 169
    assert (clip.size, clip.start, clip.end) == (49408, (49406,), 49407)


def test_texts_are_cut_into_words():
    text = " It's  THE dog’s &amp;amp; cat_5's 42m²… <end_of_text>"
    said = "it 's the dog 's & cat _ 5 's 4 2 m ² … < end _ of _ text >"
    assert list(words(text)) == said.split()


@given(st.text())
def test_any_text_is_tokens_and_comes_back(text: str):
    clip = made_up("t h", "th e</w>")
    ids = clip.ids(text)
    assert all(0 <= i < clip.start[0] for i in ids)
    assert clip.text([*clip.start, *ids, clip.end]) == " ".join(words(text)).encode("utf-8", "replace").decode()


def test_a_word_without_end_takes_no_time_without_end():
    clip = made_up("a a", "aa aa")
    assert len(clip.ids("a" * 50_000)) < 50_000 / MAX_WORD * (MAX_WORD / 4 + 3)


def test_clip_reads_what_open_clip_reads():
    """Token for token, with the vocabulary that was published. Ours cuts and fills by itself, see Texts."""
    path = published()
    theirs, ours = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer(path), tokenizers.tokenizer(path)
    said = [
        *captions(50),
        "a photo of a cat",
        "It's the DOG's 2 bones, isn't it?  They'll've gone...",
        "Prix: 12,50 €, naïve café, Ærøskøbing; “quoted” ‘single’ dog’s",
        "Straße, прывітанне, Ελλάδα, 日本語 テキスト, 한국어, עברית, हिन्दी",
        "½ cup &amp; 3² &lt;b&gt; 😀👍🏽 no\u00a0break e\u0301 \t tabs\nlines",
        "http://example.com/a_b?c=d#e (1990) [x] {y} ~!@#$%^&*_+",
        "supercalifragilisticexpialidocious" * 3,
        Path(__file__).with_name("pictures.py").read_text(),
    ]
    for text in said:
        assert ours.ids(text) == theirs.encode(text), text[:80]
        back = ours.text(ours.ids(text))
        assert back == theirs.decode(theirs.encode(text)).strip()
    ids = Texts(tokenizer=path, length=77).tokens("a photo of a cat")
    want = theirs(["a photo of a cat"])[0].tolist()
    assert ids[:7].tolist() == want[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (ids[7:] == 49407).all()
    cut = Texts(tokenizer=path, length=8).tokens("star " * 20)
    assert cut.tolist() == theirs(["star " * 20], 8)[0].tolist()


# --- files that are none ---


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.model", "is not there; make one with: abx tokenizer train DATA --out FILE, or take scenes (bui"),
        ("", "is no tokenizer: it is not a file of at most 64 MB"),
        ("pipe", "is no tokenizer: it is not a file of at most 64 MB"),
        ("empty", "is no tokenizer: SentencePiece cannot read it; one is scenes"),
        ("text", "is no tokenizer: SentencePiece cannot read it; one is scenes"),
        ("half.model", "is no tokenizer: SentencePiece cannot read it; one is scenes"),
        ("endless.model", "is no tokenizer: it has no token for the end of a text"),
        ("other.gz", "is no tokenizer: it is not CLIP's: that has 48,894 lines of two symbols"),
        ("half.gz", "is no tokenizer: it is a gzip file that is damaged or holds no text"),
        ("text/below", "cannot be read: Not a directory"),
        ("zero\0", "is not the name of a file"),
        ("new\nline", "/new\\nline is not there"),
    ],
)
def test_what_is_no_tokenizer_is_said_in_one_sentence(name, said, tmp_path):
    model = tokenizers.contents("scenes")
    packed = gzip.compress(b"#version\n" + b"a b\n" * 100)
    files = {
        "empty": b"",
        "text": b"dog\ncat\n" * 100,
        "half.model": model[: len(model) // 2],
        "endless.model": model.replace(b"</s>\x15\x00\x00\x00\x00\x18\x03", b"</s>\x15\x00\x00\x00\x00\x18\x01", 1),
        "other.gz": packed,
        "half.gz": packed[:-20],
    }
    assert files["endless.model"] != model
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadTokenizer) as wrong:
        tokenizers.tokenizer(f"{tmp_path}/{name}")
    assert said in str(wrong.value)
    assert len(str(wrong.value).splitlines()) == 1
    (problem,) = Texts(tokenizer=f"{tmp_path}/{name}").problems("--data.text")
    assert problem == f"--data.text.tokenizer: {wrong.value}"


def test_a_file_that_was_missing_can_come(tmp_path):
    texts = Texts(tokenizer=f"{tmp_path}/late.model")
    assert texts.problems("--data.text")
    (tmp_path / "late.model").write_bytes(tokenizers.contents("scenes"))
    assert texts.problems("--data.text") == []
    assert texts.fingerprint == Texts().fingerprint
    assert isinstance(tokenizers.tokenizer(texts.tokenizer), Tokenizer)


# --- the console ---


def test_train_says_what_it_made(tmp_path, capsys):
    picture = encoded(smooth(20, 30), "PNG")
    files = {f"{i}.{ext}": data for i in range(4) for ext, data in (("png", picture), ("txt", TEXTS[i].encode()))}
    long = " ".join(["a dog"] * 40)
    write_tar(tmp_path / "a.tar", {**files, "4.png": picture, "4.txt": long.encode(), "5.png": picture})
    out = tmp_path / "new.model"
    main(["tokenizer", "train", f"tar:{tmp_path}/a.tar", "--out", str(out), "--vocab", "290", "--json"])
    printed = capsys.readouterr().out
    assert f"in clip, clip_aug, siglip: --data.text.tokenizer {out} --method.text.vocab 290" in printed
    assert f"in slip, silc: --data.pairs-text.tokenizer {out} --method.text.vocab 290" in printed
    assert f"in ab_clip, ab_siglip: --data.reward-text.tokenizer {out} --method.base.text.vocab 290" in printed
    said = json.loads(printed.splitlines()[-1])
    texts = Texts(tokenizer=str(out))
    want = np.mean([len(tokenizers.tokenizer(str(out)).ids(text)) for text in (*TEXTS[:4], long)])
    assert said == {
        "tokenizer": str(out),
        "vocab": texts.vocabulary_size,
        "texts": 5,
        "mean_tokens": pytest.approx(want),
        "length": 64,
        "cut": 0.2,
    }
    assert texts.vocabulary_size == 290
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["a.tar", "new.model"]


def test_train_learns_from_boxes(tmp_path, capsys):
    out = tmp_path / "boxes.model"
    command = ["tokenizer", "train", "scenes", "--kind", "boxes", "--max-texts", "50", "--vocab", "330"]
    main([*command, "--out", str(out), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["texts"] == 50
    model = tokenizers.tokenizer(str(out))
    assert len(model.ids("disc")) == 1
    assert len(model.ids("floor")) > 2  # which captions say, and no boxes


@pytest.mark.parametrize("name", ["scenes", "clip"])
def test_show(name, capsys):
    tokenizer = published() if name == "clip" else name
    main(["tokenizer", "show", tokenizer, "Two stars\ttwo", "--json"])
    *lines, last = capsys.readouterr().out.splitlines()
    said = json.loads(last)
    assert said["ids"] == [*SCENES.ids("two stars two"), 1] if name == "scenes" else [49406, 1237, 2895, 1237, 49407]
    assert [line.split() for line in lines[:-1]] == [
        [str(i), piece] for i, piece in zip(said["ids"], said["pieces"], strict=True)
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "nowhere"], "data is "),
        (["train", "folder:HERE"], "holds no pictures"),
        (["train", "folder:HERE/pictures"], "has no captions to learn from"),
        (["train", "folder:HERE/pictures", "--kind", "boxes"], "has no boxes to learn from"),
        (["train", "scenes", "--max-texts", "20"], "--vocab 32000: the texts are too few or too alike for 32000 "),
        (["train", "scenes", "--max-texts", "20", "--vocab", "30"], "--vocab 30: 30 tokens are too few"),
        (["train", "scenes", "--vocab", "0", "--max-texts", "-1"], "--vocab must be at least 1, not 0; --max-texts "),
        (["train", "scenes", "--out", "HERE"], "is a folder: name a file to write"),
        (["train", "scenes", "--out", "HERE/no/a.model"], "which does not exist: name a file to write"),
        (["show", "nowhere.model", "a dog"], "nowhere.model is not there"),
    ],
)
def test_a_mistake_is_one_sentence(args, said, capsys, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(encoded(smooth(20, 30), "PNG"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    here = str(tmp_path / "empty") if args == ["train", "folder:HERE"] else str(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main(["tokenizer", *(arg.replace("HERE", here) for arg in args)])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert list((tmp_path / "cwd").iterdir()) == []
