"""What all ways of running Quarterdeck share; what a deployment may change is read here, through env."""

import hashlib
import os
from datetime import timedelta
from typing import Any

from csp.constants import NONE, SELF

from settings.email import read_email_url
from settings.env import BadSetting, Environment
from settings.logs import configure_logs
from settings.place import BASE_DIR, Place, make_directory
from settings.secret import SHORTEST, read_or_make_secret_key

environment = Environment(os.environ)

# --- Where things are kept ---

PLACE = Place.of(environment)
DATA_DIR = PLACE.data_dir
SPOOL_DIR = PLACE.spool_dir
make_directory("DATA_DIR", DATA_DIR)
make_directory("SPOOL_DIR", SPOOL_DIR)

# --- Who we are to the outside ---

DEBUG = environment.flag("DEBUG", default=False)
SECRET_KEY = environment.text("SECRET_KEY") or read_or_make_secret_key(DATA_DIR / "secret_key")
if len(SECRET_KEY) < SHORTEST:
    raise BadSetting("SECRET_KEY", f"{SHORTEST} characters or more", f"{len(SECRET_KEY)} long")
# Keys before this one: what they signed or encrypted can still be read.
SECRET_KEY_FALLBACKS = environment.keys("SECRET_KEY_FALLBACKS", shortest=SHORTEST)
# What secrets in the database are encrypted with in place of SECRET_KEY: the first key encrypts, each decrypts.
ENCRYPTION_KEYS = environment.keys("ENCRYPTION_KEYS", shortest=SHORTEST)
ALLOWED_HOSTS = environment.hosts("ALLOWED_HOSTS", default=("localhost", "127.0.0.1", "0.0.0.0", "[::1]"))
CSRF_TRUSTED_ORIGINS = environment.origins("CSRF_TRUSTED_ORIGINS")
# Origins whose pages may use the API from a browser.
CORS_ALLOWED_ORIGINS = frozenset(environment.origins("CORS_ALLOWED_ORIGINS"))
INSTANCE_LABEL = environment.text("INSTANCE_LABEL")

# A forwarded header counts only where the deployment says that a proxy sets it: anybody can send one.
BEHIND_TLS_PROXY = environment.flag("BEHIND_TLS_PROXY", default=False)
USE_X_FORWARDED_HOST = environment.flag("USE_X_FORWARDED_HOST", default=False)
TRUSTED_PROXIES = environment.integer("TRUSTED_PROXIES", default=0, low=0, high=10)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS_PROXY else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS_PROXY
SECURE_HSTS_SECONDS = environment.integer(
    "HSTS_SECONDS", default=31_536_000 if BEHIND_TLS_PROXY else 0, low=0, high=63_072_000
)

# Where alerts are e-mailed through; empty: no e-mail is sent.
EMAIL_URL = environment.text("EMAIL_URL")
if EMAIL_URL:
    globals().update(read_email_url(EMAIL_URL))

# Threads of each web process that answer requests. Connections cost none, so there are few.
WEB_THREADS = PLACE.web_threads
# Of one token, session or address, in each web process. 0: no limit.
REQUESTS_PER_SECOND = environment.integer("REQUESTS_PER_SECOND", default=100, low=0, high=1_000_000)

# --- Django ---

INSTALLED_APPS = [
    "django_otp",
    "django_otp.plugins.otp_totp",
    "operators",
    "scheduling",
    "dashboard",
    "api",
    "scheduling.admin_site.Config",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_q",
    "django_htmx",
    "django_tables2",
    "django_structlog",
    "axes",
    "csp",
    "ninja",
]

MIDDLEWARE = [
    "operators.middleware.Probes",
    "django.middleware.security.SecurityMiddleware",
    "api.middleware.RequestId",
    "api.middleware.Compression",
    "api.middleware.Cors",
    "csp.middleware.CSPMiddleware",
    "api.middleware.ProblemResponses",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "operators.middleware.SignInRequired",
    "operators.middleware.RecordsRefusals",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "dashboard.middleware.NotAllowedInWords",
    "dashboard.middleware.DeletedMeanwhile",
    # Last, as django-axes asks: it turns a locked-out sign-in into its answer.
    "axes.middleware.AxesMiddleware",
]
# A path without its final slash is answered by the API itself: a redirect would lose the body of a POST.
APPEND_SLASH = False

ROOT_URLCONF = "settings.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
# The admin writes days and times as the dashboard does.
FORMAT_MODULE_PATH = "settings.formats"
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = environment.directory("STATIC_ROOT", default=DATA_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"] if (BASE_DIR / "static").is_dir() else []
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
FILE_UPLOAD_HANDLERS = ["operators.uploads.NoFiles"]

# --- Database ---

# Each connection of a thread has a page cache of its own: the clusters get a large one for bulk writes,
# the threads of the web processes (runner.programs) a small one.
SQLITE_CACHE_MIB = environment.integer("SQLITE_CACHE_MIB", default=64, low=1, high=4096)
DATABASE_POOLER = environment.choice(
    "DATABASE_POOLER", default="none", among=("none", "session", "transaction")
)
# The server's side of a connection: else it keeps the sessions of a host that vanished for two hours.
SERVER_KEEPALIVES = " ".join(
    f"-c {option}"
    for option in (
        "tcp_keepalives_idle=10",
        "tcp_keepalives_interval=5",
        "tcp_keepalives_count=3",
        "tcp_user_timeout=20000",
    )
)
_database = dict(PLACE.database)
DATABASE_VENDOR = _database.pop("vendor")
if DATABASE_VENDOR == "sqlite":
    _database |= {
        "ENGINE": "scheduling.sqlite",
        "OPTIONS": {
            # Without it a transaction that reads first can't be upgraded: "database is locked" at once.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; "
                # 16 MiB. The process whose commit exceeds that moves them and waits for the disk: with SQLite's 1,000,
                # twice in a second of short lists.
                "PRAGMA wal_autocheckpoint=4000; "
                f"PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-{SQLITE_CACHE_MIB * 1024};"
            ),
        },
        # A file and not memory, so that a real cluster can join a test.
        "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
    }
else:
    # A pooler such as PgBouncer accepts no options of the server, and one that works by transaction gives each
    # transaction another session: no cursor outside of one, and nothing that is set for a session.
    if DATABASE_POOLER == "none":
        _database["OPTIONS"]["options"] = (
            f"{_database['OPTIONS'].get('options', '')} {SERVER_KEEPALIVES}".strip()
        )
    _database |= {
        "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLER == "transaction",
        # No pool: its sockets would be shared by the processes that a cluster forks.
        "ENGINE": "scheduling.postgresql",
        "CONN_HEALTH_CHECKS": True,
        # A host that is gone without a word would else be waited for for a quarter of an hour.
        "OPTIONS": {
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            **_database["OPTIONS"],
        },
    }
# Our transactions last milliseconds and wait for nothing: a process that is idle in one for this long is
# frozen or gone. Shorter than the lease of what a minute worker has claimed, so that a frozen worker's rows
# are free by the time that others take them over.
FROZEN_TRANSACTION_SECONDS = 10
# Without lasting connections every poll of the broker opens a new one.
DATABASES = {"default": {"CONN_MAX_AGE": None, **_database}}

if DATABASE_VENDOR == "sqlite":
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": DATA_DIR / "cache" / "default",
        },
    }
    # The entries are pickles: who can write there runs code here.
    (DATA_DIR / "cache").mkdir(mode=0o700, exist_ok=True)
else:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "cache",
            "KEY_PREFIX": "default",
        }
    }

# --- Jobs: two django-q2 clusters ---

# Jobs that share a minute's sending. SQLite has one writer: a second worker would only wait for the first.
SEATS = environment.integer("SEATS", default=1 if DATABASE_VENDOR == "sqlite" else 2, low=1, high=64)
MINUTES_CLUSTER = "minutes"
Q_CLUSTER: dict[str, Any] = {
    # The name is the broker's key and the salt of the signatures: a change loses what is queued.
    "name": "quarterdeck",
    "orm": "default",
    "broker_class": "runner.broker.WatchedBroker",
    "workers": 2,
    # Lower than `workers` hangs a stop, higher hoards jobs that other hosts could run.
    "queue_limit": 2,
    "bulk": 1,
    "poll": 0.2,
    # retry > 3 x timeout, else a job may run beside itself.
    "timeout": 60,
    "retry": 240,
    "max_attempts": 3,
    "ack_failures": False,
    # With a limit every result would load all that are kept.
    "save_limit": -1,
    "catch_up": False,
    "time_zone": "UTC",
    # 0.25, 0.5 or 1: with others the countdown never hits zero and a stuck job is never killed.
    "guard_cycle": 0.5,
    "recycle": 500,
    "max_rss": 300_000,
    "cache": "default",
    "label": "Jobs",
    "ALT_CLUSTERS": {
        MINUTES_CLUSTER: {
            # The next minute is armed while this one still runs, and one more for the rest.
            "workers": 2 * SEATS + 1,
            "queue_limit": 2 * SEATS + 1,
            "poll": 0.1,
            # A minute worker starts 4 s before its minute and waits up to 26 s for the last answers: some 90 s.
            "timeout": 110,
            "retry": 360,
            "scheduler": False,
            "recycle": 200,
        },
    },
}

# --- Who may come in ---

AUTH_USER_MODEL = "operators.Operator"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "/dashboard/"
LOGOUT_REDIRECT_URL = LOGIN_URL
SESSION_COOKIE_AGE = environment.integer("SESSION_HOURS", default=12, low=1, high=24 * 90) * 3600
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Cookies ignore the port: with one name for all, instances on one host would sign each other out.
instance = hashlib.blake2b(SECRET_KEY.encode(), digest_size=4, person=b"cookies").hexdigest()
SESSION_COOKIE_NAME = f"quarterdeck_session_{instance}"
CSRF_COOKIE_NAME = f"quarterdeck_csrf_{instance}"

# Sign-in by OpenID Connect: off without an issuer. The secret comes from the organization's server.
OIDC_ISSUER = environment.text("OIDC_ISSUER")
OIDC_NAME = environment.text("OIDC_NAME", default="OpenID Connect")
OIDC_CLIENT_ID = environment.text("OIDC_CLIENT_ID", default="quarterdeck")
OIDC_CLIENT_SECRET = environment.text("OIDC_CLIENT_SECRET")
OIDC_SCOPES = environment.text("OIDC_SCOPES", default="openid profile email")
OIDC_ROLE_CLAIM = environment.text("OIDC_ROLE_CLAIM", default="roles")
OIDC_ROLES = environment.roles("OIDC_ROLES", default="admin=admin,operator=operator,viewer=viewer")
# What an authenticator app shows beside the code.
OTP_TOTP_ISSUER = "Quarterdeck"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True

# Name and address together: nobody can lock somebody else's account from afar.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = environment.integer("SIGN_IN_FAILURES", default=5, low=1, high=100)
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_TEMPLATE = "operators/locked_out.html"
AXES_VERBOSE = False
AXES_CLIENT_IP_CALLABLE = "operators.middleware.client_address"

# --- Headers ---

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    },
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# --- The domain ---

INTAKE_MAX_IDS = environment.integer("INTAKE_MAX_IDS", default=10_000_000, low=1, high=1_000_000_000)
# The most bytes of a body, both as it arrives and unpacked.
INTAKE_MAX_BODY_BYTES = environment.integer(
    "INTAKE_MAX_BODY_BYTES", default=512 * 1024**2, low=1024, high=64 * 1024**3
)
# Of the data that travel with one ID, as compact JSON.
DATA_MAX_BYTES = environment.integer("DATA_MAX_BYTES", default=4 * 1024, low=2, high=64 * 1024)
# Who sees these data; everybody else sees the names of the columns.
DATA_VISIBLE_TO = environment.choice(
    "DATA_VISIBLE_TO", default="operator", among=("viewer", "operator", "admin")
)
# What a signed-in operator may send in a form; lists are longer, and read as streams.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
# A list this short is written by the transaction that accepts it, unless its first minute is near.
WRITE_AT_ONCE_IDS = environment.integer("WRITE_AT_ONCE_IDS", default=100, low=0, high=1_000)
# IDs a second at which a list that is being written is taken to be written, when a window closes.
WRITE_RATE = environment.integer("WRITE_RATE", default=50_000, low=100, high=10_000_000)
# How far ahead a list under carry_over may be planned.
HORIZON_DAYS = environment.integer("HORIZON_DAYS", default=7, low=1, high=366)
RETENTION_DAYS = environment.integer("RETENTION_DAYS", default=90, low=1, high=36_500)
WEBHOOK_ALLOWED_NETWORKS = environment.networks("WEBHOOK_ALLOWED_NETWORKS")
# Authorities that webhooks trust in addition to the system's.
WEBHOOK_CA_FILE = environment.certificates("WEBHOOK_CA_FILE")
# Callables that a queue with the handler `python` may name.
PYTHON_HANDLERS = environment.dotted_paths("PYTHON_HANDLERS")

# --- Logs ---

LOG_LEVEL = environment.choice("LOG_LEVEL", default="INFO", among=("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_FORMAT = environment.choice("LOG_FORMAT", default="json", among=("json", "text"))
LOGGING_CONFIG = None
configure_logs(level=LOG_LEVEL, form=LOG_FORMAT)
# A board polls each second: a finished request is worth a line only when something is wrong with it.
# api.middleware.RequestId has checked it.
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = 10
DJANGO_STRUCTLOG_STATUS_2XX_LOG_LEVEL = 10
