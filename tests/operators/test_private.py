"""What is confidential stays so: files on the disk, and pages in a browser."""

from operators.checks import check_privacy


def test_directory_readable_by_others_is_reported(settings, tmp_path):
    settings.DATA_DIR = settings.SPOOL_DIR = tmp_path
    tmp_path.chmod(0o700)
    assert check_privacy() == []
    tmp_path.chmod(0o750)
    result = check_privacy()
    assert [message.id for message in result] == ["quarterdeck.W101"] * 2
    assert f"chmod 700 {tmp_path}" in result[0].hint


def test_pages_behind_the_sign_in_are_not_cached(client, make_operator):
    client.force_login(make_operator("admin"))
    for path in ("/dashboard/", "/dashboard/queues/", "/dashboard/activity/", "/admin/"):
        assert "no-store" in client.get(path)["Cache-Control"], path


def test_file_in_an_ordinary_form_is_ignored(client, make_operator, tmp_path, settings):
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    path = tmp_path / "list"
    path.write_bytes(b"x" * 3_000_000)
    with path.open("rb") as file:
        answer = client.post("/sign-in/", {"username": "a", "password": "b", "file": file})
    assert answer.status_code == 200
    assert not answer.wsgi_request.FILES
    assert [each.name for each in tmp_path.iterdir()] == ["list"]
