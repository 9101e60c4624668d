# One target per service:
#   without torch: curation retriever pipeline trainer evaluation openai-front
#   with torch: sampler reward, and worker, which holds every stage and is what training pods run
# `make images` builds them. `make wheels` first puts what they install into build/wheels, so that the
# build itself needs no network (but for g++, where BUILDER_IMAGE has none).
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BUILDER_IMAGE=${BASE_IMAGE}


# The package with its kernels compiled. Its build goes on without a compiler; an image must not.
FROM ${BUILDER_IMAGE} AS package
RUN command -v g++ >/dev/null || \
    { apt-get update && apt-get install --yes --no-install-recommends g++ libc6-dev; }
WORKDIR /src
COPY pyproject.toml README.md ./
COPY services services
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/uv build --quiet --no-cache --offline --no-index --find-links /wheels \
      --wheel --out-dir /package && \
    python3 -m zipfile -l /package/plumbline-*.whl | grep -q 'kernels/_native.*\.so'


# What all images share: the user, and the packages that every service needs. The root file system may
# be read-only: state, caches and what libraries write to a home directory go to /var/lib/plumbline,
# which is then a volume, as is /tmp. The files in /opt/package also tell builders whose caches do not
# look into mounts that something else is to be installed.
FROM ${BASE_IMAGE} AS core
RUN groupadd --gid 10001 plumbline && \
    useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/plumbline --create-home \
      --shell /usr/sbin/nologin plumbline && \
    python3 -m venv --without-pip /opt/plumbline
ENV PATH=/opt/plumbline/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/plumbline \
    PLUMBLINE_STATE_DIR=/var/lib/plumbline \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/plumbline
COPY pyproject.toml build/wheels/requirements.txt /opt/package/
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install --requirement /opt/package/pyproject.toml --extra telemetry


# Gigabytes that change with the lock alone, shared by three images.
FROM core AS torch
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install --requirement /opt/package/pyproject.toml --extra models


FROM core AS curation
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[curation,telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.curation.server"]


FROM core AS retriever
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[qdrant,retriever,telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.retriever.server"]


# Also for what steers: workers of the queue `pipeline`, the launcher of Kubernetes Jobs, helm test.
FROM core AS pipeline
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[kubernetes,telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.pipeline.server"]


FROM core AS trainer
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.trainer.server"]


FROM core AS evaluation
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[evaluation,telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.evaluation.server"]


FROM core AS openai-front
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[http,telemetry]"
USER 10001:10001
CMD ["python", "-m", "plumbline.openai_front.server"]


FROM torch AS sampler
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[openai,sampler,telemetry,triton]"
USER 10001:10001
CMD ["python", "-m", "plumbline.sampler.server"]


FROM torch AS reward
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[reward,telemetry,triton]"
USER 10001:10001
CMD ["python", "-m", "plumbline.reward.server"]


FROM torch AS worker
COPY --from=package /package /opt/package
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    /wheels/install "plumbline[all]"
USER 10001:10001
CMD ["python", "-m", "plumbline.worker", "--queues", "training,curation,sampling,scoring,evaluation"]
