"""Exported folders in registries: Hugging Face's hub, and that of an MLflow server.

What is pushed and pulled is verified on this side, file by file. Tokens are the clients' own
(`hf auth login`, HF_TOKEN, MLFLOW_TRACKING_TOKEN), and are in no message.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from raffect.errors import ConflictError, DataError, NotThereError, RaffectError
from raffect.export.layout import MANIFEST, Exported, read_export, read_manifest, whole_folder
from raffect.requirements import require
from raffect.text import first_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LOGIN = re.compile(r"//[^/\s@]*@")
_EXPERIMENT = "raffect"
_ARTIFACTS = "model"


def push_to_hub(folder: Path, repository: str, public: bool = False) -> str:
    """Make a repository what an exported folder is; its address. New ones are private.

    Raises:
        DataError: The folder is no export, or is damaged.
        NotThereError: The hub can't be reached, refuses the token, or there is none.
    """
    found = read_export(folder)
    names = _names(found)
    with _asking(repository):
        hub = huggingface_hub.HfApi()
        made = hub.create_repo(repository, private=not public, exist_ok=True)
        there = set(hub.list_repo_files(made.repo_id)) - {".gitattributes"}
        if there and MANIFEST not in there:
            raise ConflictError(
                f"{made.repo_id} holds files, and none is of `raffect export`.",
                "a new repository, or one that `raffect push` filled",
                "Give another name.",
            )
        done = hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=names,
            # Files of an earlier model, by other names.
            delete_patterns=sorted(there - set(names)),
            commit_message=f"{found.model.name}, exported by raffect {found.manifest.raffect}",
        )
    return str(done.repo_url)


def pull_from_hub(
    repository: str, out: Path, revision: str | None = None, overwrite: bool = False
) -> Exported:
    """Get a repository that `push_to_hub` filled as a folder, whole or not at all.

    Raises:
        ConflictError: The folder exists.
        DataError: The repository holds no export, or a damaged one.
        NotThereError: There is no such repository, or the hub can't be reached.
    """
    with whole_folder(out, overwrite) as folder:
        with _asking(repository):
            huggingface_hub.hf_hub_download(
                repository, MANIFEST, revision=revision, local_dir=folder
            )
            names = [entry.name for entry in read_manifest(folder).files]
            huggingface_hub.snapshot_download(
                repository, revision=revision, local_dir=folder, allow_patterns=names
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        return read_export(folder)


def push_to_mlflow(folder: Path, name: str, uri: str) -> str:
    """Register an exported folder as a new version of a model; `models:/NAME/VERSION`.

    Raises:
        DataError: The folder is no export, or is damaged.
        NotThereError: MLflow is not installed, or its server can't be reached.
    """
    found = read_export(folder)
    with _mlflow(uri) as client:
        from mlflow.exceptions import MlflowException

        known = client.get_experiment_by_name(_EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(_EXPERIMENT)
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name)
        run = client.create_run(experiment, run_name=name).info
        client.log_artifacts(run.run_id, str(folder), _ARTIFACTS)
        client.log_metric(run.run_id, "score", found.model.score)
        client.set_terminated(run.run_id)
        version = client.create_model_version(
            name,
            f"{run.artifact_uri}/{_ARTIFACTS}",
            run.run_id,
            tags={"task": found.model.task.value, "raffect": found.manifest.raffect},
            description=f"{found.model.name}: {found.model.score:.4f} on validation",
        )
    return f"models:/{name}/{version.version}"


def pull_from_mlflow(name: str, uri: str, out: Path, overwrite: bool = False) -> Exported:
    """Get a version of a model, `NAME` (the latest) or `NAME/VERSION`, as a folder.

    Raises:
        ConflictError: The folder exists.
        DataError: The model is no export, or a damaged one.
        NotThereError: There is no such model, or MLflow or its server can't be reached.
    """
    with whole_folder(out, overwrite) as folder:
        with _mlflow(uri) as client:
            model, _, number = name.partition("/")
            versions = client.search_model_versions(f"name = '{model}'")
            chosen = [of for of in versions if number in ("", str(of.version))]
            if not chosen:
                numbers = ", ".join(sorted(str(of.version) for of in versions))
                raise NotThereError(
                    f"MLflow has no version {name!r}.",
                    f"versions of {model}: {numbers or 'none'}",
                    "Correct the name, or push the model first.",
                )
            of = max(chosen, key=lambda each: int(each.version))
            got = client.download_artifacts(str(of.run_id), _ARTIFACTS, str(folder))
        for file in Path(got).iterdir():
            file.rename(folder / file.name)
        Path(got).rmdir()
        return read_export(folder)


def _names(found: Exported) -> list[str]:
    return [*(entry.name for entry in found.manifest.files), MANIFEST]


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """The hub's errors as messages; its bars would be drawn through ours."""
    hub = _LOGIN.sub("//", constants.ENDPOINT)
    disable_progress_bars()
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except RaffectError:
        raise
    except HFValidationError:
        raise DataError(
            f"{repository!r} is no name of a repository.",
            "OWNER/NAME, of letters, digits, '-', '_' and '.'",
            "Correct the name.",
        ) from None
    except LocalTokenNotFoundError:
        raise _refused(repository, hub, "no token was found") from None
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _away(hub, error) from None
        raise DataError(
            f"{repository} at {hub} holds no {MANIFEST}: `raffect push` did not fill it.",
            "a repository of an exported model",
            "Correct the name, or get the files by `hf download`.",
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = "revision" if isinstance(error, RevisionNotFoundError) else "repository"
        raise _refused(
            repository, hub, f"there is no such {what}, or you may not see it"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            why = "the token is refused" if status == 401 else "the token lacks the right"
            raise _refused(repository, hub, why) from None
        raise _away(hub, f"it answers {status}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise _away(hub, error) from None
    except Exception as error:
        # Those of its HTTP client, which is another one in other versions.
        if not type(error).__module__.startswith(("http", "requests")):
            raise
        raise _away(hub, error) from None
    finally:
        enable_progress_bars()
        hub_logging.set_verbosity(before)


def _refused(repository: str, hub: str, why: str) -> NotThereError:
    return NotThereError(
        f"{hub} does not give {repository}: {why}.",
        "a repository that you may use, as OWNER/NAME",
        "Correct the name; or log in by `hf auth login`, or set HF_TOKEN.",
    )


def _away(where: str, why: BaseException | str) -> NotThereError:
    return NotThereError(
        f"{where} can't be used: {_LOGIN.sub('//', first_line(why))}.",
        "a server that answers",
        "Run the same command again when it does.",
    )


@contextmanager
def _mlflow(uri: str) -> Iterator[MlflowClient]:
    require("mlflow", "mlflow", "--mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    # It logs each table that it makes in a new database; its import sets the level.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        raise _away(f"MLflow at {_LOGIN.sub('//', uri)}", error.message) from None
