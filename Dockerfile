FROM python:3.13-slim AS build
WORKDIR /build
COPY LICENSE README.md pyproject.toml ./
COPY migrations migrations
COPY src src
# The wheel carries the migrations, so the image needs no source tree.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
RUN python -m venv /opt/unpause \
    && /opt/unpause/bin/pip install --no-cache-dir "$(echo /wheels/unpause-*.whl)[anthropic,openai,postgres]"

FROM python:3.13-slim
COPY --from=build /opt/unpause /opt/unpause
ENV PATH=/opt/unpause/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    UNPAUSE_DATABASE_URL=sqlite:////data/unpause.db
# Fixed numbers, so that a mounted folder can be given to this user from outside.
RUN groupadd --gid 10001 unpause \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin unpause \
    && install --directory --owner unpause --group unpause /data
USER unpause
WORKDIR /data
VOLUME /data
EXPOSE 7777
# A server is asked for /health, on the port that it was given; a worker listens on none.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "unpause.cli.health"]
ENTRYPOINT ["unpause"]
# The first start on an empty database writes an administrator's token to /data/unpause-admin-token.
CMD ["serve", "--host", "0.0.0.0"]
