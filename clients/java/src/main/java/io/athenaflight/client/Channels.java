package io.athenaflight.client;

import io.grpc.ManagedChannel;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.ChannelOption;
import io.netty.channel.socket.nio.NioChannelOption;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.SocketOption;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import javax.net.ssl.SSLException;
import jdk.net.ExtendedSocketOptions;

/**
 * The way to a server: by name, so that each new connection asks DNS where the server is now (Arrow's own builder asks
 * once, and a client would stay with the address of a container that is long gone).
 */
final class Channels {
  /**
   * A peer that vanished without a word is found by the kernel within a minute, and what counts idle connections between
   * the two (load balancers, NAT: from 60 s on) sees signs of life. Not by pings of HTTP/2: servers that run on gRPC's
   * C core, as this one, end connections that send one in less than five minutes.
   */
  private static final Map<String, SocketOption<Integer>> KEEPALIVE =
      Map.of(
          "TCP_KEEPIDLE", ExtendedSocketOptions.TCP_KEEPIDLE,
          "TCP_KEEPINTVL", ExtendedSocketOptions.TCP_KEEPINTERVAL,
          "TCP_KEEPCNT", ExtendedSocketOptions.TCP_KEEPCOUNT);

  private static final Map<String, Integer> SECONDS = Map.of("TCP_KEEPIDLE", 30, "TCP_KEEPINTVL", 10, "TCP_KEEPCNT", 3);

  /** PEM files, each null where there is none. They are read here, and not again. */
  record Tls(Path roots, Path certificate, Path key) {}

  private Channels() {}

  /** {@code tls} is null for a connection without. Nothing is connected yet. */
  static ManagedChannel to(URI url, Tls tls) {
    NettyChannelBuilder builder = NettyChannelBuilder.forAddress(url.getHost(), url.getPort());
    // A batch is at most 8 MiB, a plan or a contract some kB; that is the server's to keep.
    builder.maxInboundMessageSize(Integer.MAX_VALUE).maxInboundMetadataSize(Integer.MAX_VALUE).maxTraceEvents(0);
    boolean epoll = isEpoll();
    builder.withOption(ChannelOption.SO_KEEPALIVE, true);
    KEEPALIVE.forEach((name, option) -> builder.withOption(keepalive(name, option, epoll), SECONDS.get(name)));
    if (tls == null) {
      return builder.usePlaintext().build();
    }
    try (InputStream roots = opened(tls.roots);
        InputStream certificate = opened(tls.certificate);
        InputStream key = opened(tls.key)) {
      SslContextBuilder context = GrpcSslContexts.forClient();
      if (roots != null) {
        context.trustManager(roots);
      }
      if (certificate != null) {
        context.keyManager(certificate, key);
      }
      return builder.sslContext(context.build()).build();
    } catch (SSLException error) {
      throw new IllegalArgumentException("the certificates cannot be used: " + error.getMessage(), error);
    } catch (IOException error) {
      throw new UncheckedIOException("a certificate cannot be read", error);
    }
  }

  /** Of netty's native sockets by its name, which its pool of options knows without their library. */
  private static ChannelOption<Integer> keepalive(String name, SocketOption<Integer> nio, boolean epoll) {
    return epoll ? ChannelOption.valueOf("io.netty.channel.epoll.EpollChannelOption#" + name) : NioChannelOption.of(nio);
  }

  /** Whether gRPC will take netty's native sockets, as it does where a program has them for other reasons. */
  private static boolean isEpoll() {
    try {
      return (Boolean) Class.forName("io.netty.channel.epoll.Epoll").getMethod("isAvailable").invoke(null);
    } catch (ReflectiveOperationException | LinkageError error) {
      return false;
    }
  }

  private static InputStream opened(Path file) throws IOException {
    return file == null ? null : Files.newInputStream(file);
  }
}
