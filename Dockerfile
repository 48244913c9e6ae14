# One image for the web server and both clusters. Alone, on SQLite:
#   docker run -p 8000:8000 -v quarterdeck:/data quarterdeck
# With PostgreSQL and a container each: compose.yaml.
FROM python:3.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.txt ./
RUN pip install --root-user-action=ignore --require-hashes -r requirements.txt

COPY manage.py pyproject.toml LICENSE ./
COPY settings settings
COPY operators operators
COPY scheduling scheduling
COPY dashboard dashboard
COPY api api
COPY runner runner
COPY templates templates
COPY static static

# Collected and compiled now, since the root may be read-only later. What this run makes for itself goes again.
ENV STATIC_ROOT=/app/collected
RUN DATA_DIR=/tmp/build python manage.py collectstatic --noinput --verbosity 0 \
    && rm -rf /tmp/build \
    && python -m compileall -q . \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin quarterdeck \
    && install -d -o quarterdeck -g quarterdeck -m 700 /data

# All that is written: the SQLite file if there is one, the spool of uploads, the generated key.
ENV DATA_DIR=/data LISTEN=0.0.0.0 PORT=8000
VOLUME /data
EXPOSE 8000
USER quarterdeck

# The runner hears SIGTERM itself, and ends everything within 30 s (stop with a grace of 40 s).
STOPSIGNAL SIGTERM
CMD ["python", "-m", "runner"]
