import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.attribute.PosixFilePermissions;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.DelegateToFileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;

/**
 * The local disk, for node managers without Hadoop's native library. Hadoop's own class then starts a `chmod` for each
 * file of an archive, which takes minutes for an environment with TensorFlow.
 */
public class QuickLocalFs extends DelegateToFileSystem {
    public QuickLocalFs(URI uri, Configuration settings) throws IOException, URISyntaxException {
        super(uri, new Disk(), settings, "file", false);
    }

    @Override
    public int getUriDefaultPort() {
        return -1;
    }

    private static class Disk extends RawLocalFileSystem {
        @Override
        public void setPermission(Path path, FsPermission permission) throws IOException {
            String letters =
                    permission.getUserAction().SYMBOL
                            + permission.getGroupAction().SYMBOL
                            + permission.getOtherAction().SYMBOL;
            Files.setPosixFilePermissions(pathToFile(path).toPath(), PosixFilePermissions.fromString(letters));
        }
    }
}
