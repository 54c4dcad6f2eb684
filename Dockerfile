# One image for every role of Sentinel and for the stand-in stack. Dependencies are a layer of their own, and only
# what the lock names with its hash gets in; the lock of the image has the extras for Kubernetes and AWS as well. For
# Docker Compose the executor needs the `docker` program and a socket, which is root on that machine: add it yourself.
FROM python:3.12.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements-image.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements-image.lock

COPY pyproject.toml README.md LICENSE ./
COPY connectors connectors
COPY engine engine
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
COPY rules rules
COPY examples examples

# Named volumes take over the owner of the folder they are mounted on.
RUN useradd --system --uid 10001 --no-create-home sentinel \
    && install -d -o sentinel -g sentinel -m 0700 /var/lib/sentinel /keys/private \
    && install -d -o sentinel -g sentinel -m 0755 /keys/public
USER sentinel
ENV SENTINEL_STATE_DIR=/var/lib/sentinel SENTINEL_HTTP__LISTEN=0.0.0.0:9560
EXPOSE 9560
VOLUME /var/lib/sentinel

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9560/health', timeout=4)"]
CMD ["sentinel", "run"]
