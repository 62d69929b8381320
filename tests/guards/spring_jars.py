"""Spring Boot, Spring Security and Tomcat without Maven: `spring_jars.py FOLDER` takes them out of a Python package that ships
a Spring Boot program. Only those libraries are kept, all under the Apache licence or one like it.

The package itself is free for non-commercial use only, so this runs by hand and never by itself: where Maven reaches its
repository, `make guards` takes the jars from there.
"""
import io, pathlib, re, subprocess, sys, tempfile, zipfile

PACKAGE = "atoti-server==0.9.16"
WANTED = re.compile(r"BOOT-INF/lib/(spring-(boot|boot-autoconfigure|core|jcl|beans|context|aop|expression|web|webmvc)|"
                    r"spring-security-(core|crypto|web|config|oauth2-core|oauth2-jose|oauth2-resource-server)|nimbus-jose-jwt|tomcat-embed-(core|el)|"
                    r"jackson-(core|databind|annotations|datatype-jdk8|datatype-jsr310|module-parameter-names)|micrometer-(commons|observation)|"
                    r"slf4j-api|jul-to-slf4j|log4j-to-slf4j|logback-(core|classic)|jakarta\.annotation-api|snakeyaml|jspecify|jcip-annotations)-\d[^/]*\.jar")

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as download:
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", download, PACKAGE], check=True)
    with zipfile.ZipFile(next(pathlib.Path(download).glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/server.jar"))
        with zipfile.ZipFile(io.BytesIO(wheel.read(name))) as program:
            for name in filter(WANTED.fullmatch, program.namelist()):
                (folder / pathlib.PurePath(name).name).write_bytes(program.read(name))
print(f"{len(list(folder.glob('*.jar')))} jars in {folder}")
