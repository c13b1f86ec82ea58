# The page and the API of `refseg serve`, as a user without rights.
#
#   docker build -t refseg .                                                                      # for a CPU
#   docker build -t refseg --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .       # for CUDA
#   docker run --rm -p 8000:8000 -e REFSEG_TOKEN=... refseg                                       # the packaged models
#   docker run --rm -v "$PWD:/data" refseg segment /data/photo.jpg "the dog" --out /data/out      # any other command
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# `hub` adds transformers for open models of photos, which are downloaded to /home/refseg/.cache.
ARG EXTRAS=web

WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" -c constraints.txt torch \
    && python -m pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && rm -rf /build \
    && useradd --create-home --uid 10001 refseg

USER refseg
WORKDIR /home/refseg
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["refseg"]
CMD ["serve", "--host", "0.0.0.0"]
