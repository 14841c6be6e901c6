# Extraction and training in a container.
#
#   docker build -t skelfew .                                  # CPU
#   docker build -t skelfew --build-arg TORCH=cu128 .          # CUDA 12.8; run with --gpus all
#   docker run --rm -v "$PWD:/data" skelfew train --cache cache/pku.zarr
FROM python:3.12-slim
ARG TORCH=cpu
WORKDIR /opt/skelfew
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY skelfew skelfew
COPY pipeline pipeline
COPY manifests manifests
COPY cache/README.md cache/README.md
RUN pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url "https://download.pytorch.org/whl/${TORCH}" '.[prepare,extract,explain,remote]'
WORKDIR /data
ENTRYPOINT ["skelfew"]
