"""The addresses of the operators' face."""

from django.urls import include, path

from dashboard.views import account, board, ids, minutes, preview, tasks, upload

urlpatterns = [
    path(
        "dashboard/",
        include(
            [
                path("", board.board, name="board"),
                path("upload/", upload.upload, name="upload"),
                path("upload/<int:draft_id>/", preview.preview, name="preview"),
                path("upload/<int:draft_id>/discard/", preview.discard, name="discard"),
                path("upload/<int:draft_id>/overlap/", preview.overlap, name="overlap"),
                path("upload/<int:draft_id>/leave-out/", preview.leave_out, name="leave_out"),
                path("upload/<int:draft_id>/faults.csv", preview.faults, name="faults"),
                path("tasks/<int:task_id>/", tasks.task, name="task"),
                path("ids/", ids.find, name="find"),
                path("minutes/<str:stamp>/", minutes.minute, name="minute"),
                path("account/", account.account, name="account"),
                path("account/sign-out/", account.sign_out_everywhere, name="sign_out_everywhere"),
            ]
        ),
    ),
]
