import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Asks for a permitted and a refused path with both versions of HTTP. */
public class Web {
    public static void main(String[] args) throws Exception {
        for (var version : HttpClient.Version.values()) {
            var client = HttpClient.newBuilder().version(version).build();
            var good = client.send(HttpRequest.newBuilder(URI.create(args[0] + "/ok/java"))
                .POST(HttpRequest.BodyPublishers.ofByteArray(new byte[100_000])).build(), BodyHandlers.ofString());
            var bad = client.send(HttpRequest.newBuilder(URI.create(args[0] + "/no/java")).build(), BodyHandlers.ofString());
            System.out.println(good.version() + " " + good.statusCode() + " " + bad.statusCode());
        }
    }
}
