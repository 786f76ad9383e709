"""The last words of a worker are those that say why it ended."""

from penstock.model.last_words import last_words

STARTED = '{"at":1.5,"level":"info","event":"worker started","worker":"w","app":"a","pid":1}'
BROKEN = '{"at":1.6,"level":"error","event":"can\'t load","detail":"no weights","traceback":"Traceback..."}'


def test_small_talk_is_left_out_and_errors_are_told_in_words():
    assert last_words(f"{STARTED}\n{BROKEN}") == "can't load: no weights"


def test_what_the_handler_printed_stays():
    assert last_words(f"{STARTED}\nSegmentation fault\n[1, 2]") == "Segmentation fault\n[1, 2]"


def test_a_log_of_nothing_but_small_talk_says_nothing():
    assert last_words(STARTED) == last_words("") == ""


def test_only_the_end_is_repeated():
    assert last_words("\n".join(str(n) for n in range(100))) == "95\n96\n97\n98\n99"


def test_an_error_without_detail_is_its_event():
    assert last_words('{"level":"warning","event":"broker is silent"}') == "broker is silent"
