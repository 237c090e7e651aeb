# The demonstration, with its pool in a volume: docker build -t election . && docker run --init -p 8000:8000 election
FROM python:3.11-slim

WORKDIR /app

# The package and what it needs first: this layer stays when only the application changes.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY election election
# One image for every engine: a directory, PostgreSQL and Redis.
RUN pip install --no-cache-dir -c constraints.txt ".[app,postgres,redis]" "psycopg[binary]"
COPY run.py ./
COPY app app

# The pool has to belong to whoever uses it, and to be kept when the container is replaced.
RUN useradd --system --uid 10001 election && install --directory --owner election --mode 0700 /var/lib/election
USER 10001
VOLUME /var/lib/election

ENV ELECTION_HOST=0.0.0.0 ELECTION_PORT=8000 ELECTION_POOL=/var/lib/election/pool ELECTION_LOG_FORMAT=json
ENV PYTHONUNBUFFERED=1
EXPOSE 8000

# No shell between: the signal of a stop reaches the parent of the workers, which passes it on in order.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"ELECTION_PORT\"]}/healthz', timeout=2)"]
CMD ["python", "run.py"]
