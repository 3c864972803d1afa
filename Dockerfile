# Two stages: the first installs wheels into /opt/athena-flight and takes out what only builds and tests need, the second
# has Python, that folder and the datasets. What of this was checked, and how, is in docs/deployment.md, "The image".
# The full image in the first stage, for `strip`; its Python is the slim one's. It brings a compiler that nothing uses.
FROM python:3.11-bookworm AS build
# "otlp,demo" for the image of deploy/docker-compose.yml, which loads the demo tables.
ARG EXTRAS=otlp
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/build/constraints.txt
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY flight_server ./flight_server
# Wheels only; the project itself is the one source build. pip stays outside of what is copied to the second stage.
RUN python -m venv --without-pip /opt/athena-flight \
 && pip --python /opt/athena-flight/bin/python install \
    --only-binary :all: --no-binary athena-flight --no-compile "athena-flight[${EXTRAS}] @ file:///build"
# What a server never reads:
# - tests; headers, sources and link names for building on pyarrow; zstandard's second backend, which is PyPy's;
# - AWS services that are not called. Those that credentials come from stay: roles of pods, single sign-on, `aws login`;
# - symbols for debuggers. `*.libs` were patched when the wheels were made: stripped, they no longer load.
# Then all is compiled, as no start can write that down. Sources' times are not looked at: copying may change them.
RUN find /opt/athena-flight -type d \( -name tests -o -path '*/pyarrow/include' -o -path '*/sqlalchemy/testing' \) \
    -prune -exec rm -rf {} + \
 && find /opt/athena-flight -type f \( -path '*/pyarrow/*.pyx' -o -path '*/pyarrow/*.pxd' -o -path '*/pyarrow/*.pxi' \
    -o -path '*/pyarrow/libarrow_python*.so' -o -path '*/pyarrow/libarrow_python*.so.*.*' \
    -o -path '*/zstandard/_cffi.*' \) -delete \
 && find /opt/athena-flight -path '*/botocore/data/*' -type d -prune \
    ! -name athena ! -name glue ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
 && find /opt/athena-flight -type f -name '*.so*' ! -path '*.libs/*' -exec strip --strip-unneeded {} + \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/athena-flight/lib

FROM python:3.11-slim-bookworm
# A fixed number, so that a volume's owner can be set from outside.
RUN useradd --uid 10001 --home-dir /srv --no-create-home --shell /usr/sbin/nologin athena-flight
COPY --from=build /opt/athena-flight /opt/athena-flight
WORKDIR /srv
COPY sql ./sql
# Beyond loopback, the server starts only with authentication (or server.insecure_allow_remote).
ENV PATH=/opt/athena-flight/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ATHENA_FLIGHT_SERVER__HOST=0.0.0.0 ATHENA_FLIGHT_LOG__FORMAT=json
USER 10001:10001
# Flight, HTTP, gRPC's health checks. All but /tmp can be read-only: DuckDB spills there, and results are kept there.
EXPOSE 8815 8816 8817
VOLUME ["/tmp"]
# Ready, not only alive: what starts after this container needs answers. Orchestrators have probes of their own (deploy/).
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"ATHENA_FLIGHT_SERVER__HTTP_PORT\", 8816)}/readyz', timeout=4)"]
ENTRYPOINT ["athena-flight"]
CMD ["serve"]
