# Recado with everything that docs/production.md uses. `docker build -t recado .`
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/recado \
 && /opt/recado/bin/pip install --no-cache-dir '.[production]'

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/recado recado
COPY --from=build /opt/recado /opt/recado
USER recado
WORKDIR /var/lib/recado
ENV PATH=/opt/recado/bin:$PATH RECADO_HOST=0.0.0.0 RECADO_LOG_FORMAT=json
EXPOSE 8000 1883 8083
# Both `serve` and `worker` stop in order on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["recado"]
CMD ["serve"]
