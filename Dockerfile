# Two stages: the first installs wheels into /opt/athena-flight, the second has Python, that folder and the datasets.
# No Docker engine was at hand where this was written: what was checked is in docs/operations.md, "Container".
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/build/constraints.txt
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY flight_server ./flight_server
# Wheels only: nothing is compiled, so neither stage needs a compiler. The project itself is the one source build.
RUN python -m venv /opt/athena-flight \
 && /opt/athena-flight/bin/pip install --only-binary :all: --no-binary athena-flight --no-compile '.[otlp]' \
 && /opt/athena-flight/bin/pip uninstall --yes pip setuptools \
 && find /opt/athena-flight -type d \( -name tests -o -name include \) -path '*/pyarrow/*' -prune -exec rm -rf {} +

FROM python:3.11-slim-bookworm
# A fixed number, so that a volume's owner can be set from outside.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin athena-flight
COPY --from=build /opt/athena-flight /opt/athena-flight
COPY sql /srv/sql
WORKDIR /srv
ENV PATH=/opt/athena-flight/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ATHENA_FLIGHT_LOG__FORMAT=json
USER 10001
# Flight, HTTP. The root file system can be read-only; /tmp is where DuckDB spills.
EXPOSE 8815 8816
VOLUME ["/tmp"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8816/livez', timeout=2)"]
ENTRYPOINT ["athena-flight"]
CMD ["serve"]
