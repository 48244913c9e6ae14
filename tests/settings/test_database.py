import pytest

from settings.database import read_database_url
from settings.env import BadSetting


def test_postgresql_url_is_read_completely():
    assert read_database_url(
        "postgres://deck:p%40ss%2Fword@db.example:6432/quarter%20deck?sslmode=require"
    ) == {
        "vendor": "postgresql",
        "NAME": "quarter deck",
        "USER": "deck",
        "PASSWORD": "p@ss/word",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "require"},
    }


@pytest.mark.parametrize(
    "url", ["postgresql://postgres:@/postgres?host=/tmp/sock", "postgresql:///postgres?host=/tmp/sock"]
)
def test_postgresql_socket_directory_is_read(url):
    database = read_database_url(url)
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("/tmp/sock", "", "postgres")
    assert database["OPTIONS"] == {}


def test_ipv6_host_in_brackets_is_read():
    assert read_database_url("postgresql://[::1]:5433/deck")["HOST"] == "::1"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///var/deck.sqlite3", "var/deck.sqlite3"),
        ("sqlite:////srv/deck.sqlite3", "/srv/deck.sqlite3"),
        ("sqlite:////srv/my%20deck.sqlite3", "/srv/my deck.sqlite3"),
    ],
)
def test_sqlite_file_is_read(url, name):
    assert read_database_url(url) == {"vendor": "sqlite", "NAME": name}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/deck",
        "postgres",
        "postgres://localhost",
        "postgres://localhost/",
        "postgres://localhost/a/b",
        "postgres://localhost:port/deck",
        "postgres://localhost:99999/deck",
        "postgres://localhost/deck?sslmod=require",
        "postgres://localhost/deck?sslmode=",
        "postgres://localhost/deck?sslmode",
        "postgres://localhost/deck#x",
        "postgres://deck:100%@localhost/deck",
        "postgres://[::1/deck",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/deck.sqlite3",
        "sqlite:///deck.sqlite3?mode=ro",
        "sqlite:///directory/",
        "sqlite:///:memory:",
    ],
)
def test_invalid_database_urls_are_refused(url):
    with pytest.raises(BadSetting, match=r"^DATABASE_URL must be "):
        read_database_url(url)


def test_refusal_does_not_show_the_password():
    with pytest.raises(BadSetting) as refusal:
        read_database_url("postgres://deck:se:cr@t@localhost/deck?nonsense=1")
    assert "cr@t" not in str(refusal.value)
    assert "deck:***@localhost" in str(refusal.value)
