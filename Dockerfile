# An image with the program zael and nothing else. See docs/development.md.
#
#   docker build -t zael .
#   docker run --rm -v zael:/data zael acquire --entity key-1 --resource gpt-4 --limit rpm=100/min
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /zael
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make aggregator notices && mkdir /data
ARG TARGETOS TARGETARCH
# timetzdata: a scratch image has no time zones, which TZ names.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
	go build -trimpath -tags timetzdata -ldflags='-s -w' -o /usr/local/bin/zael ./cmd/zael

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /zael/LICENSE /zael/.bin/NOTICES /
COPY --from=build /usr/local/bin/zael /usr/local/bin/zael
# The default store is a SQLite file in /data; AWS's settings may be mounted at /data/.aws.
COPY --from=build --chown=65532:65532 /data /data
VOLUME /data
ENV PATH=/usr/local/bin HOME=/data XDG_DATA_HOME=/data TMPDIR=/data
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/zael"]
