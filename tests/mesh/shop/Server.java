import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** HTTP/1.1 with the standard library of Java; `java Server.java` needs no build. */
class Server {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(System.getenv("HOST"), Integer.parseInt(System.getenv("PORT")));
        var server = HttpServer.create(address, 0);
        server.createContext("/", exchange -> {
            var body = ("java " + exchange.getRequestURI()).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
